"""How the programs of the tests' own process are compiled: quickly, and once.

XLA's costly passes quadruple the time to compile and change nothing that a test claims
of a model's mathematics. A program that must be compiled as a server's takes `SERVED`;
another process, such as a server's, compiles as it always does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jax

EMITTERS: Final = jax.__version_info__ < (0, 12)
"""Whether XLA still knows the flag that chooses how it emits a fusion."""

QUICKLY: Final = "--xla_backend_optimization_level=0" + (
    " --xla_cpu_use_fusion_emitters=false" if EMITTERS else ""
)
SERVED: Final[Mapping[str, Any]] = {"xla_backend_optimization_level": 3} | (
    {"xla_cpu_use_fusion_emitters": True} if EMITTERS else {}
)
"""Compiler options of one program: XLA's own defaults."""

KEPT: Final = Path(__file__).parents[1] / ".pytest_cache" / "compiled"
KEPT_FROM_S: Final = 0.2


def compile_quickly() -> None:
    """Set XLA's flags for this process, but not for those that it starts.

    XLA reads them once, when JAX first looks for devices. On a machine with a GPU
    everything is compiled as it serves.
    """
    if Path("/dev/nvidiactl").exists():
        return
    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{before or ''} {QUICKLY}".strip()
    jax.devices()
    if before is None:
        del os.environ["XLA_FLAGS"]
    else:
        os.environ["XLA_FLAGS"] = before


def compile_once() -> None:
    """Keep what takes long to compile for other tests, processes and runs."""
    jax.config.update("jax_compilation_cache_dir", str(KEPT))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", KEPT_FROM_S)

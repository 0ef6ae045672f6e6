"""The instruction set of a run: its name, and runs restricted to an older one.

A restricted run compiles as for an older CPU, by numba and by XLA both, so that the
baseline and the bound are those of such a CPU too. Its caches and its clock are still
those of this one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final, NamedTuple

RESTRICTIONS: Final = {
    "avx2": {
        "NUMBA_CPU_NAME": "x86-64-v3",
        "NUMBA_CPU_FEATURES": "+avx2,+fma",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    }
}
"""The environment variables of each restriction; they can be set by hand as well."""

SHOWN: Final[tuple[str, ...]] = (
    "avx2", "fma", "avx512f", "avx512vl", "avx512fp16", "amx-tile", "neon", "sve"
)  # fmt: skip


class Instructions(NamedTuple):
    """What a run was compiled for.

    Attributes:
        name: Of the instruction set.
        cpu: By LLVM's name.
        features: Some of the CPU's features, by LLVM's names.
        restricted: Whether the CPU itself has more.
    """

    name: str
    cpu: str
    features: list[str]
    restricted: bool

    def __str__(self) -> str:
        only = ", restricted" if self.restricted else ""
        return f"{self.name} ({self.cpu}: {' '.join(self.features)}){only}"


def instructions() -> Instructions:
    """Return what this process compiles for."""
    if find_spec("numba") is None:
        return Instructions("as XLA chooses", "", [], restricted=False)
    from saccade.model.cpu_kernels.machine import MACHINE, cpu_name, features

    present = features()
    restricted = any(name in os.environ for name in RESTRICTIONS["avx2"])
    shown = [name for name in SHOWN if name in present]
    return Instructions(MACHINE.instructions, cpu_name(), shown, restricted)


def restrict(name: str, module: str, argv: Sequence[str] | None) -> None:
    """Start this program again with a restriction, unless it has that already."""
    wanted = RESTRICTIONS[name]
    if wanted.items() <= os.environ.items():
        return
    arguments = sys.argv[1:] if argv is None else argv
    command = [sys.executable, "-m", module, *arguments]
    os.execve(sys.executable, command, {**os.environ, **wanted})

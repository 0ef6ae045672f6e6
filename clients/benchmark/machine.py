"""What a measurement depends on: the processor, its instruction sets, the versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("saccade", "numpy", "msgpack", "websockets", "jax", "numba")
INSTRUCTION_SETS: Final = ("avx512f", "avx2", "avx", "asimd", "neon")
"""From the widest to the narrowest; as Linux names them."""
VARIABLES: Final = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "XLA_FLAGS")
"""Environment variables that restrict or change the instructions that are used."""


def machine() -> dict[str, Any]:
    """Return the machine and the versions as JSON values."""
    name, instructions = _processor()
    return {
        "processor": name,
        "instruction_set": instructions,
        "cores": os.cpu_count(),
        "usable_cores": len(usable_cores()),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions(),
        "commit": commit(),
        "environment": {v: os.environ[v] for v in VARIABLES if v in os.environ},
    }


def usable_cores() -> set[int]:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the commit of the source that runs, with a mark where it was changed.

    None where this is no checkout.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(
            command,
            cwd=Path(__file__).resolve().parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10.0,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> tuple[str, str | None]:
    """Return the processor's name and its widest instruction set, where known."""
    file = Path("/proc/cpuinfo")
    text = file.read_text(errors="replace") if file.exists() else ""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = set(f"{fields.get('flags', '')} {fields.get('Features', '')}".split())
    widest = next((name for name in INSTRUCTION_SETS if name in flags), None)
    return fields.get("model name") or platform.processor() or "unknown", widest


def _memory_gib() -> float | None:
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
    return round(pages / 2**30, 1)

"""The CPU's cores, and the sizes of its caches, from which blocks of work take theirs.

Linux tells the caches. Elsewhere, and where a virtual machine hides them, they are
taken to be those of a server's core.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDER: Final = Path("/sys/devices/system/cpu/cpu0/cache")
ASSUMED_BYTES: Final = {2: 1 << 20, 3: 1 << 25}
"""By level, where the system does not say."""

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20}


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_bytes(level: int, folder: Path = FOLDER) -> int:
    """Return the size of the cache of a level, in bytes."""
    return _known(level, folder)[0]


def share_bytes(level: int, folder: Path = FOLDER) -> int:
    """Return a thread's share of that cache: as many share it as CPUs do, in bytes."""
    size, sharing = _known(level, folder)
    return size // sharing


def _known(level: int, folder: Path) -> tuple[int, int]:
    """Return a cache's size, and the number of CPUs that share it."""
    return next(_caches(level, folder), (ASSUMED_BYTES[level], 1))


def _caches(level: int, folder: Path) -> Iterator[tuple[int, int]]:
    for index in sorted(folder.glob("index*")):
        try:
            kind, found, size, cpus = (
                (index / name).read_text().strip()
                for name in ("type", "level", "size", "shared_cpu_list")
            )
        except OSError:
            continue
        number = re.fullmatch(r"(\d+)([KM]?)", size)
        if kind != "Instruction" and found == str(level) and number is not None:
            yield int(number[1]) * _UNITS[number[2]], _count(cpus)


def _count(cpus: str) -> int:
    """Return how many CPUs a list as `0-3,8-11` names, at least one."""
    count = 0
    for part in filter(None, cpus.split(",")):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            count += int(last or first) - int(first) + 1
    return max(count, 1)

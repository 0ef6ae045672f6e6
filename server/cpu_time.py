"""How many cores' time this process may use, and how many threads are worth having.

A container is seldom limited to some cores; it may use so much CPU time in each tenth
of a second, and all its threads stand still once that is spent. Python and XLA count
cores alone. Linux's control groups say the limit, in either version of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from saccade.model.cpu_caches import usable_cores

THREADS: Final = "NPROC"
"""XLA's variable for how many threads it starts; they run the native code too."""


class CpuTime(NamedTuple):
    """What a process may use.

    Attributes:
        cores: Cores that its threads may run on.
        quota: Cores' time that it may use; None where that is not limited.
    """

    cores: int
    quota: float | None

    @property
    def threads(self) -> int:
        """Threads that are worth having: as many as the quota begins to give a core.

        With 1.5 cores' time two threads score more than one, although they stand still
        for a part of it; with 1.0 the second one only waits.
        """
        if self.quota is None:
            return self.cores
        return max(1, min(self.cores, math.ceil(self.quota)))

    def __str__(self) -> str:
        if self.quota is None:
            return f"{self.cores} cores"
        return f"{self.quota:g} of {self.cores} cores' time"


def cpu_time(root: Path = Path("/")) -> CpuTime:
    """Return what this process may use.

    Args:
        root: The file system's.
    """
    return CpuTime(usable_cores(), min(_quotas(root), default=None))


def variables(time: CpuTime, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which XLA starts as many threads as are worth having.

    Args:
        time: What this process may use.
        environment: The process's; a number that it sets already stands.
    """
    if THREADS in environment or time.threads >= time.cores:
        return {}
    return {THREADS: str(time.threads)}


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each control group that this process is in."""
    for folder in _groups(root):
        try:
            words = (folder / "cpu.max").read_text().split()
        except OSError:
            try:
                names = "cpu.cfs_quota_us", "cpu.cfs_period_us"
                words = [(folder / name).read_text().strip() for name in names]
            except OSError:
                continue
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
            yield int(words[0]) / int(words[1])


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups, and of those that they are in.

    A container that sees its host's names for them has its own at the top.
    """
    mounted = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines or ["0::/"]:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mounted / ("cpu" if controllers else "")
        place = top / name.lstrip("/")
        yield place
        yield from (parent for parent in place.parents if parent.is_relative_to(top))

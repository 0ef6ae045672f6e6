"""Benchmark of a server whose control group may use less CPU time than the cores have.

    python -m benchmarks.quota [--quotas 1.5,1] [--threads 1,2] [--json PATH]

Containers are limited so: all threads of a group together get some cores' time in each
100 ms, and stand still once it is spent. A server for each number of native threads is
in a group of its own, its clients in none. By turns each server scores one session of
dvs/small at full speed, and one modest sensor, without a quota and with each.

It needs Linux, and root to make control groups (of either version); elsewhere it says
so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

import benchmarks.kept  # noqa: F401 before all that imports JAX
from benchmarks.comparison import end_comparison
from benchmarks.serve import server_of
from benchmarks.serve_cases import (
    RANDOM_MODEL,
    Case,
    Served,
    sensors,
    served_models,
)
from saccade.clients.benchmark.crew import Crew
from saccade.clients.benchmark.measured import Measured
from saccade.clients.commands.server_process import ServerProcess
from saccade.server.cpu_time import THREADS

GROUPS: Final = Path("/sys/fs/cgroup")
PERIOD_US: Final = 100_000
MODEST_RATE: Final = 25_600.0
GRACE_S: Final = 5.0
SENSOR: Final = [128, 128]


class NoGroups(Exception):
    """No control group can be made here."""


class Group:
    """A control group that limits its processes' CPU time; of either version.

    Args:
        folder: Its folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newer = (folder / "cpu.max").exists()

    def add(self, pid: int) -> None:
        """Add a process."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def limit(self, cores: float | None) -> None:
        """Allow the processes together so many cores' time, or all there is."""
        quota = None if cores is None else round(cores * PERIOD_US)
        if self._newer:
            text = f"{'max' if quota is None else quota} {PERIOD_US}"
            (self._folder / "cpu.max").write_text(text)
            return
        (self._folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (self._folder / "cpu.cfs_quota_us").write_text(str(quota or -1))

    def throttled_s(self) -> float:
        """Return for how long its cores have stood still, s, added up."""
        lines = (self._folder / "cpu.stat").read_text().splitlines()
        stat = {name: int(value) for name, value in (line.split() for line in lines)}
        if "throttled_usec" in stat:
            return stat["throttled_usec"] / 1e6
        return stat["throttled_time"] / 1e9


@contextmanager
def group_of(pid: int, root: Path = GROUPS) -> Iterator[Group]:
    """Put a process into a new group, which is removed once the process has ended.

    Raises:
        NoGroups: This process may not make one.
    """
    parent = root / "cpu" if (root / "cpu").is_dir() else root
    folder = parent / f"saccade-quota-{pid}"
    try:
        folder.mkdir()
        try:
            group = Group(folder)
            group.limit(None)
            group.add(pid)
        except OSError:
            folder.rmdir()
            raise
    except OSError as error:
        raise NoGroups(f"no control group can be made in {parent}: {error}") from error
    try:
        yield group
    finally:
        with suppress(ProcessLookupError):
            (parent / "cgroup.procs").write_text(str(pid))
        folder.rmdir()


class Row(NamedTuple):
    """What one server did under one quota; latencies are in ms.

    Attributes:
        threads: Its native threads.
        quota: Cores' time that it had; None for all there is.
        events_per_s: Of the session at full speed.
        standing: For which part of that time a core stood still, added up.
        full_p50_ms: From a frame of that session sent to its score.
        full_p99_ms: The same.
        modest_p50_ms: From the last event of a modest sensor's tick, due, to its score.
        modest_p99_ms: The same.
    """

    threads: int
    quota: float | None
    events_per_s: float
    standing: float
    full_p50_ms: float
    full_p99_ms: float
    modest_p50_ms: float
    modest_p99_ms: float


class Limited(NamedTuple):
    """A server in a group, and its two loads."""

    threads: int
    group: Group
    full: Crew
    modest: Crew

    def run(self, quota: float | None, seconds: float) -> Row:
        """Measure both loads, one after the other, under a quota."""
        self.group.limit(quota)
        before_s = self.group.throttled_s()
        full = self.full.run(seconds, GRACE_S)
        standing = (self.group.throttled_s() - before_s) / full.elapsed_s
        modest = self.modest.run(seconds, GRACE_S)
        self.group.limit(None)
        times = *_ms(full), *_ms(modest)
        return Row(self.threads, quota, full.events_per_s, standing, *times)


def _ms(measured: Measured) -> tuple[float, float]:
    found = [measured.latency.percentile(percent) for percent in (50, 99)]
    return tuple(1e3 * (s if s is not None else float("nan")) for s in found)  # type: ignore[return-value]


def limited(model: Served, threads: int, stack: ExitStack) -> Limited:
    """Start a server of so many native threads in a group.

    Raises:
        NoGroups: There can be no group.
    """
    arguments = ["--snapshot-s", "0"]
    before = os.environ.get(THREADS)
    os.environ[THREADS] = str(threads)
    try:
        server = stack.enter_context(server_of([model], arguments, end_comparison))
    finally:
        del os.environ[THREADS]
        if before is not None:
            os.environ[THREADS] = before
    group = stack.enter_context(group_of(server.pid))
    full = Case(RANDOM_MODEL, 1, 4096, "tick")
    modest = sensors(RANDOM_MODEL, 1, MODEST_RATE)
    crews = [_crew(server, case, stack) for case in (full, modest)]
    return Limited(threads, group, *crews)


def _crew(server: ServerProcess, case: Case, stack: ExitStack) -> Crew:
    return stack.enter_context(Crew(server.url, case.load(1, sensor=SENSOR), 1))


def run(
    threads: Sequence[int], quotas: Sequence[float], seconds: float, rounds: int
) -> list[Row]:
    """Measure every number of threads under every quota; return medians of rounds.

    Raises:
        NoGroups: There can be no group.
    """
    found: defaultdict[tuple[int, float | None], list[Row]] = defaultdict(list)
    with served_models([RANDOM_MODEL]) as (model,), ExitStack() as stack:
        servers = [limited(model, count, stack) for count in threads]
        for server in servers:
            server.run(None, seconds / 4)
        for _ in range(rounds):
            for quota in (None, *quotas):
                for server in servers:
                    found[server.threads, quota].append(server.run(quota, seconds))
    return [_median(rows) for rows in found.values()]


def _median(rows: Sequence[Row]) -> Row:
    columns = [*zip(*rows, strict=True)][2:]
    return Row(rows[0].threads, rows[0].quota, *map(median, columns))


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table."""
    shown = Table(title=f"{RANDOM_MODEL}, one session at full speed, one modest")
    for heading in ("threads", "cores", "events/s", "standing", "p50 / p99", "modest"):
        shown.add_column(heading, justify="right")
    for row in rows:
        shown.add_row(
            str(row.threads),
            "all" if row.quota is None else f"{row.quota:g}",
            f"{row.events_per_s:,.0f}",
            f"{row.standing:.0%}",
            f"{row.full_p50_ms:.1f} / {row.full_p99_ms:.1f} ms",
            f"{row.modest_p50_ms:.1f} / {row.modest_p99_ms:.1f} ms",
        )
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quota")
    parser.add_argument("--quotas", default="1.5,1", help="cores (default: 1.5,1)")
    parser.add_argument("--threads", default="1,2", help="native (default: 1,2)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a slice")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args(argv)
    try:
        rows = run(
            [int(text) for text in options.threads.split(",")],
            [float(text) for text in options.quotas.split(",")],
            options.seconds,
            options.rounds,
        )
    except NoGroups as error:
        sys.stderr.write(f"nothing is measured: {error}\n")
        return 0
    Console().print(table(rows))
    if options.json:
        lines = [row._asdict() for row in rows]
        options.json.write_text(json.dumps(lines, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

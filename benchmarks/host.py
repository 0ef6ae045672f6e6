"""Benchmark of the host path alone: a whole server but its sockets and its network.

    python -m benchmarks.host [--quick] [--json PATH]

The model costs nothing (`benchmarks.host_path`), so what is left is what a server does
around any model, as it would beside a fast accelerator: the event loop decodes frames,
checks events, makes tokens, and turns scores into messages; the device thread packs
batches, launches them and reads the scores back. Both run as in a server, in one
process. Three numbers count: events per second of both together, and what each of the
two threads could do on a core of its own. A second run of each case times the stages
of the event loop, which slows them. Last, all sessions are packed into one batch
of one tick each, and all are exported.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.host_path import (
    TICK_EVENTS,
    HostPath,
    Shared,
    Stages,
    device_cpu_s,
    shared_engine,
)
from saccade.clients.benchmark.machine import machine
from saccade.server.protocol.messages import Report

SESSIONS: Final = (64, 1024)
FRAME_EVENTS: Final = (256, 4096, 32768)
REPORTS: Final = {
    "tick": Report("tick"),
    "65,536 events": Report("events", 65536),
}
CASE_S: Final = 5.0
QUICK_CASE_S: Final = 1.0
WARM_UP: Final = 0.3
"""Share of a case's time that runs before the measurement."""
STAGES: Final = 0.5
"""Time of the run that measures stages, by that of the case."""
REPEATS: Final = 5
LEAST_US: Final = 30.0
"""A stage that takes less in every case is left out of the tables."""


class Row(NamedTuple):
    """One case.

    Attributes:
        sessions: Sessions that are open.
        frame_events: Events a frame.
        report: When a session gets results.
        events_per_s: Events scored per second, both threads at work.
        loop_cap: Events per second of the event loop's CPU time.
        device_cap: Events per second of the device thread's CPU time.
        loop_us: CPU time of the event loop a frame by stage, µs.
        device_us: CPU time of the device thread a batch by stage, µs.
        batch_ticks: Ticks a batch.
    """

    sessions: int
    frame_events: int
    report: str
    events_per_s: float
    loop_cap: float
    device_cap: float
    loop_us: dict[str, float]
    device_us: dict[str, float]
    batch_ticks: float


class Extremes(NamedTuple):
    """The time to pack a tick of every session, and to export every session.

    Attributes:
        sessions: Sessions that are open.
        pack_ms: CPU time to pack one batch of a tick of each.
        export_ms: CPU time of the device thread for a snapshot of each.
        snapshot_ms: Time from the first command to the last snapshot.
    """

    sessions: int
    pack_ms: float
    export_ms: float
    snapshot_ms: float


async def measure(
    shared: Shared, sessions: int, frame_events: int, report: str, seconds: float
) -> Row:
    """Measure one case for so many seconds, and then the event loop's stages."""
    path = HostPath(shared, sessions, frame_events, REPORTS[report])
    await path.run(WARM_UP * seconds)
    device, batches = shared.device_stages, shared.batches
    device.clear()
    before, ticks = batches.count, batches.ticks
    began_s = time.perf_counter(), time.thread_time(), device_cpu_s()
    events = await path.run((1 - WARM_UP) * seconds)
    ended_s = time.perf_counter(), time.thread_time(), device_cpu_s()
    path.close()
    wall_s, loop_s, device_s = (b - a for a, b in zip(began_s, ended_s, strict=True))
    count = batches.count - before
    device_us = _split(device.seconds, device_s, count)
    ticks_a_batch = (batches.ticks - ticks) / count
    return Row(
        sessions,
        frame_events,
        report,
        events / wall_s,
        events / loop_s,
        events / device_s,
        await _loop_us(shared, sessions, frame_events, report, STAGES * seconds),
        device_us,
        ticks_a_batch,
    )


async def _loop_us(
    shared: Shared, sessions: int, frame_events: int, report: str, seconds: float
) -> dict[str, float]:
    """Return the event loop's CPU time a frame by stage, µs, in a run of its own.

    To ask for a thread's CPU time takes longer than some of the stages, so that the
    rates are of a run in which nothing is asked.
    """
    stages = Stages()
    form = REPORTS[report]
    path = HostPath(shared, sessions, frame_events, form, timed=stages.timed)
    await path.run(WARM_UP * seconds)
    stages.clear()
    began_s = time.thread_time()
    events = await path.run((1 - WARM_UP) * seconds)
    loop_s = time.thread_time() - began_s
    path.close()
    return _split(stages.seconds, loop_s, events / frame_events)


def _split(stages: dict[str, float], all_s: float, count: float) -> dict[str, float]:
    """Return the µs of each stage for one of `count`, and of what is in no stage."""
    rest = {"rest": all_s - sum(stages.values())}
    return {name: 1e6 * s / count for name, s in [*stages.items(), *rest.items()]}


async def extremes(shared: Shared, sessions: int) -> Extremes:
    """Pack a tick of every session at once, then export every session; some times."""
    path = HostPath(shared, sessions, TICK_EVENTS, Report("flush"))
    found = [await _extreme(shared, path) for _ in range(REPEATS)]
    path.close()
    packs, exports, snapshots = zip(*found, strict=True)
    ms = [1e3 * median(values) for values in (packs, exports, snapshots)]
    return Extremes(sessions, *ms)


async def _extreme(shared: Shared, path: HostPath) -> tuple[float, float, float]:
    shared.device_stages.clear()
    await path.feed_all()
    pack_s = shared.device_stages.longest_s["pack"]
    began_s, device_s = time.perf_counter(), device_cpu_s()
    await path.export_all()
    return pack_s, device_cpu_s() - device_s, time.perf_counter() - began_s


async def run(
    sessions: Sequence[int], frames: Sequence[int], seconds: float
) -> tuple[list[Row], Extremes]:
    """Measure all cases, each for so many seconds."""
    with shared_engine(max(sessions)) as shared:
        rows = [
            await measure(shared, *case, seconds)
            for case in product(sessions, frames, REPORTS)
        ]
        return rows, await extremes(shared, max(sessions))


def tables(rows: Sequence[Row], most: Extremes) -> list[Table]:
    """Return the result as tables."""
    rates = _table(
        "the host path around a model that costs nothing, million events/s",
        ("both threads", "event loop", "device thread"),
    )
    for row in rows:
        figures = (row.events_per_s, row.loop_cap, row.device_cap)
        rates.add_row(*_case(row), *(f"{rate / 1e6:.1f}" for rate in figures))
    last = Table(title=f"{most.sessions:,} sessions at once")
    last.add_column("")
    last.add_column("ms", justify="right")
    last.add_row("pack a tick of each, CPU time", f"{most.pack_ms:.2f}")
    last.add_row("export each, CPU time of the device thread", f"{most.export_ms:.1f}")
    last.add_row("a snapshot of each, from first to last", f"{most.snapshot_ms:.1f}")
    return [
        rates,
        _stages("event loop, CPU time, µs a frame", rows, [r.loop_us for r in rows]),
        _stages(
            "device thread, CPU time, µs a batch",
            rows,
            [{"ticks": r.batch_ticks, **r.device_us} for r in rows],
        ),
        last,
    ]


def _stages(title: str, rows: Sequence[Row], parts: list[dict[str, float]]) -> Table:
    shown = (name for one in parts for name, us in one.items() if us >= LEAST_US)
    names = [*dict.fromkeys(shown)]
    table = _table(title, names)
    for row, one in zip(rows, parts, strict=True):
        table.add_row(*_case(row), *(f"{one.get(name, 0.0):,.0f}" for name in names))
    return table


def _table(title: str, figures: Sequence[str]) -> Table:
    table = Table(title=title)
    for heading in ("sessions", "frame", "report", *figures):
        table.add_column(heading, justify="right")
    return table


def _case(row: Row) -> tuple[str, str, str]:
    return f"{row.sessions:,}", f"{row.frame_events:,}", row.report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help=f"a case (default: {CASE_S:g})"
    )
    parser.add_argument("--sessions", type=int, action="append", metavar="N")
    parser.add_argument("--frame-events", type=int, action="append", metavar="N")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args(argv)
    seconds = options.seconds or (QUICK_CASE_S if options.quick else CASE_S)
    rows, most = asyncio.run(
        run(options.sessions or SESSIONS, options.frame_events or FRAME_EVENTS, seconds)
    )
    for table in tables(rows, most):
        Console().print(table)
    if options.json:
        written = {
            "machine": machine(),
            "cases": [row._asdict() for row in rows],
            "extremes": most._asdict(),
        }
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

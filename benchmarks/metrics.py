"""Benchmark of metrics: what counting costs a server, and a scrape beside it.

    python -m benchmarks.metrics [--rounds N] [--seconds S] [--json PATH]

Sessions run on the host path around a model that costs nothing: the largest share that
counting could have of a server's work. The share is found twice. Each round has two
slices, one that counts all that a server counts and one that counts nothing, in turn
first, and a ratio is of one round's CPU times for an event: honest, and noisy, since
batches differ. And each call that counts is timed by itself, as often as the slices
made it. A scrape is timed by itself, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.host_path import (
    HostPath,
    Shared,
    device_cpu_s,
    free_model,
    shared_engine,
)
from saccade.clients.benchmark.machine import machine
from saccade.server.engine.scheduler import Batch
from saccade.server.protocol.messages import Report
from saccade.server.sessions.observer import SessionObserver
from saccade.server.transport.metrics import Metrics
from saccade.server.transport.model_metrics import SessionMetrics, value_of

SESSIONS: Final = 64
FRAME_EVENTS: Final = (256, 4096)
EVERY_MS: Final = 100
"""Sensor time, ms, between two results, as `saccade stream` asks for."""
SESSION: Final = "0123456789abcdef"
FREE: Final = "free"
CALLS: Final = 20_000
"""Calls of one kind that are timed at a time."""
SCRAPE_S: Final = 5.0
"""Time between two scrapes, as docker/prometheus.yml has it."""


class Switch:
    """A server's metrics, which a slice without them leaves out.

    Both kinds of slice pay for the look at `on`.

    Attributes:
        on: Whether anything is counted.
    """

    def __init__(self) -> None:
        model = free_model()
        self.metrics = Metrics([model])
        self.on = True
        self.model = self.metrics.model(model.name)
        self.batch: Batch | None = None

    def observer(self) -> SessionObserver:
        """Return the observer of another session."""
        observed = SessionMetrics(self.model)
        observed.session = SESSION
        return _SwitchedSession(self, observed)

    def received(self, events: int) -> None:
        """Count a frame's events."""
        if self.on:
            self.model.events_received.inc(events)

    def compiled(self, model: str, seconds: float) -> None:
        """Do nothing: it is once a start."""

    def canary_missed(self, model: str) -> None:
        """Do nothing: the model is refused, which ends the benchmark."""

    def failed(self, model: str) -> None:
        """Do nothing: the sessions end with an error, which is raised."""

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """Count a batch."""
        if self.on:
            self.batch = batch
            self.metrics.ran(model, batch, seconds)

    def counting_s(self, frames: float) -> float:
        """Return what counting so many frames, and what came of them, takes, s."""
        model, session, batch = self.model, SessionMetrics(self.model), self.batch
        assert batch is not None
        session.session = SESSION
        steps, batches = sum(model.latency.counts), value_of(model.batches)
        results = min(value_of(model.results_reported), steps)
        ran = partial(self.metrics.ran, FREE, batch, 1e-3)
        return (
            frames * _call_s(partial(model.events_received.inc, 256))
            + steps * _call_s(partial(session.scored, 2e-3, 3e-3, 0))
            + steps * _call_s(partial(session.reported, 0))
            + results * _call_s(partial(model.results_reported.inc, 1))
            + batches * _call_s(ran)
        )


def _call_s(call: Callable[[], None]) -> float:
    """Return how long a call takes, s."""
    return min(timeit.repeat(call, number=CALLS, repeat=5)) / CALLS


class _SwitchedSession:
    """The observer of one session behind a switch."""

    def __init__(self, switch: Switch, observed: SessionMetrics) -> None:
        self._switch, self._observed = switch, observed

    def scored(self, latency_s: float, lag_s: float, late: int) -> None:
        """Count how long some events took."""
        if self._switch.on:
            self._observed.scored(latency_s, lag_s, late)

    def reported(self, results: int) -> None:
        """Count results."""
        if self._switch.on:
            self._observed.reported(results)

    def dropped(self, events: int) -> None:
        """Count dropped events."""
        if self._switch.on:
            self._observed.dropped(events)

    def withheld(self, events: int) -> None:
        """Count a change of withheld credit."""
        if self._switch.on:
            self._observed.withheld(events)


class Row(NamedTuple):
    """One case.

    Attributes:
        frame_events: Events a frame.
        events_per_s: With metrics, the median of the slices.
        cpu_ns: CPU time of an event without metrics, the median of the slices.
        counting_ns: What counting costs an event, by the time of each call.
        ratio: CPU time with metrics by CPU time without, the median of the rounds.
        lower, upper: The quartiles of the rounds' ratios.
        scrape_ms: CPU time of a scrape.
    """

    frame_events: int
    events_per_s: float
    cpu_ns: float
    counting_ns: float
    ratio: float
    lower: float
    upper: float
    scrape_ms: float


async def _slice(path: HostPath, seconds: float) -> tuple[float, float]:
    """Run for so long; return the events per second and the CPU time of an event, s."""
    began_s = time.perf_counter(), time.thread_time() + device_cpu_s()
    events = await path.run(seconds)
    wall_s = time.perf_counter() - began_s[0]
    cpu_s = time.thread_time() + device_cpu_s() - began_s[1]
    return events / wall_s, cpu_s / events


async def measure(
    shared: Shared, switch: Switch, frame_events: int, rounds: int, seconds: float
) -> Row:
    """Measure one case."""
    report = Report("ms", EVERY_MS)
    path = HostPath(shared, SESSIONS, frame_events, report, switch)
    await path.run(seconds)
    ratios, rates, bare = [], [], []
    for number in range(rounds):
        cpu: dict[bool, float] = {}
        for switch.on in (number % 2 == 0, number % 2 == 1):
            rate, cpu[switch.on] = await _slice(path, seconds)
            if switch.on:
                rates.append(rate)
        ratios.append(cpu[True] / cpu[False])
        bare.append(cpu[False])
    path.close()
    counted = value_of(switch.model.events_received)
    counting_s = switch.counting_s(counted / frame_events)
    began_s = time.thread_time()
    switch.metrics.exposition()
    scrape_s = time.thread_time() - began_s
    lower, middle, upper = quantiles(ratios, n=4)
    costs = (1e9 * median(bare), 1e9 * counting_s / counted)
    spread = (middle, lower, upper)
    return Row(frame_events, median(rates), *costs, *spread, 1e3 * scrape_s)


async def run(frames: Sequence[int], rounds: int, seconds: float) -> list[Row]:
    """Measure all cases."""
    rows = []
    for frame_events in frames:
        switch = Switch()
        with shared_engine(SESSIONS, switch) as shared:
            rows.append(await measure(shared, switch, frame_events, rounds, seconds))
    return rows


def table_of(rows: Sequence[Row]) -> Table:
    """Return the result as a table."""
    table = Table(title=f"metrics of {SESSIONS} sessions around a model without cost")
    for name in ("events a frame", "M events/s", "ns an event", "of it counting"):
        table.add_column(name, justify="right")
    table.add_column("ratio, quartiles", justify="right")
    table.add_column(f"scrape each {SCRAPE_S:g} s", justify="right")
    for row in rows:
        table.add_row(
            f"{row.frame_events:,}",
            f"{row.events_per_s / 1e6:.1f}",
            f"{row.cpu_ns:.1f}",
            f"{row.counting_ns:.2f} ({row.counting_ns / row.cpu_ns:.2%})",
            f"{row.ratio:.3f} ({row.lower:.3f} {row.upper:.3f})",
            f"{row.scrape_ms:.1f} ms ({row.scrape_ms / SCRAPE_S / 1e3:.2%})",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100, help="pairs of slices")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each slice")
    parser.add_argument("--json", type=Path, help="write the rows here")
    asked = parser.parse_args(arguments)
    rows = asyncio.run(run(FRAME_EVENTS, asked.rounds, asked.seconds))
    console = Console()
    console.print(f"{machine()}")
    console.print(table_of(rows))
    if asked.json:
        asked.json.write_text(json.dumps([row._asdict() for row in rows], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

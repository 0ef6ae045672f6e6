"""The report of `benchmarks.serve`: as tables, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from rich.table import Table

from benchmarks.serve_cases import Case
from saccade.clients.benchmark.measured import Measured
from saccade.clients.display.text import brief, milliseconds

LAST: Final = ("lag", "p99 sent", "its lag")
"""The greatest lag; p99 from when a frame was sent; the lag that the server told."""
LEAST_SHARE: Final = 0.01
"""Threads that take less of a core are left out of the tables."""


class Row(NamedTuple):
    """One case, measured.

    Attributes:
        case: The case.
        measured: What the clients measured.
        engine_events_per_s: The engine's own rate in the same time; None where it was
            not driven.
        threads: CPU time of each thread of the server by the time, by its name.
        client: CPU time of a client's process by the time.
        memory_mib: The server's resident memory afterwards.
        closed: The sums of the sessions' last messages; None where they were given up.
    """

    case: Case
    measured: Measured
    engine_events_per_s: float | None
    threads: dict[str, float]
    client: float
    memory_mib: float
    closed: dict[str, int] | None

    @property
    def share(self) -> float | None:
        """The served rate by the engine's own."""
        if self.engine_events_per_s is None:
            return None
        return self.measured.events_per_s / self.engine_events_per_s

    @property
    def ns_per_event(self) -> dict[str, float]:
        """CPU time of each of the server's processes for an event, ns."""
        found: dict[str, float] = {}
        rate = self.measured.events_per_s or float("inf")
        for name, share in self.threads.items():
            process = name.partition(": ")[0] if ": " in name else "server"
            found[process] = found.get(process, 0.0) + 1e9 * share / rate
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {
            **self.case._asdict(),
            "name": self.case.name,
            **self.measured.summary(),
            "engine_events_per_s": self.engine_events_per_s,
            "engine_share": self.share,
            "server_threads": self.threads,
            "server_ns_per_event": self.ns_per_event,
            "client_cpu_share": self.client,
            "server_resident_mib": self.memory_mib,
            "closed": self.closed,
        }


class Ceiling(NamedTuple):
    """What the clients alone send to a process that counts.

    Attributes:
        frame_events: Events a frame.
        events_per_s: Events sent a second, by one process.
        client: CPU time of the client's process by the time.
    """

    frame_events: int
    events_per_s: float
    client: float


class Report(NamedTuple):
    """Everything that was measured in one run."""

    machine: dict[str, Any]
    arguments: list[str]
    rows: list[Row]
    ceilings: list[Ceiling]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "machine": self.machine,
            "server_arguments": self.arguments,
            "cases": [row.to_json() for row in self.rows],
            "client_ceilings": [one._asdict() for one in self.ceilings],
        }


def tables(report: Report) -> list[Table]:
    """Return the report as tables, a few for each model."""
    shown = []
    for name in dict.fromkeys(row.case.model for row in report.rows):
        rows = [row for row in report.rows if row.case.model == name]
        shown += [_rates(name, rows, report.machine), _costs(name, rows)]
    return [*shown, _ceilings(report.ceilings)]


def _rates(name: str, rows: Sequence[Row], machine: dict[str, Any]) -> Table:
    title = f"{name}, {machine['processor']} ({machine['instruction_set']})"
    figures = ("events/s", "engine", "results/s", "p50", "p99", "p99.9", *LAST)
    table = _table(title, figures)
    for row in rows:
        one = row.measured
        times = [one.latency.percentile(p) for p in (50, 99, 99.9)]
        times += [one.greatest_lag_s, one.from_sent.percentile(99), one.server_lag_s]
        table.add_row(
            row.case.name,
            brief(one.events_per_s),
            "" if row.share is None else f"{row.share:.0%}",
            brief(one.results_per_s),
            *("–" if s is None else milliseconds(1e3 * s) for s in times),
        )
    return table


def _costs(name: str, rows: Sequence[Row]) -> Table:
    table = _table(f"{name}: CPU time, and what was not scored", ())
    table.add_column("server's threads")
    for heading in ("ns/event", "client", "MiB"):
        table.add_column(heading, justify="right")
    table.add_column("not scored")
    for row in rows:
        busy = sorted(row.threads.items(), key=lambda item: -item[1])
        threads = ", ".join(f"{n} {s:.0%}" for n, s in busy if s >= LEAST_SHARE)
        memory = f"{row.memory_mib:,.0f}"
        client = f"{row.client:.0%}"
        cost = " + ".join(f"{ns:,.0f}" for ns in row.ns_per_event.values())
        table.add_row(row.case.name, threads, cost, client, memory, _unscored(row))
    return table


def _unscored(row: Row) -> str:
    one = row.measured
    counts = {
        "dropped": one.dropped,
        "ticks late": one.late,
        "results left out": one.left_out,
        "refused": one.refused,
        "sessions lost": len(one.lost),
        "sums wrong": row.closed["wrong"] if row.closed else 0,
        "not closed": row.closed["unanswered"] if row.closed else one.sessions,
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _ceilings(found: Sequence[Ceiling]) -> Table:
    table = Table(title="one client process alone, into a process that counts")
    for heading in ("frame", "events/s", "client"):
        table.add_column(heading, justify="right")
    for one in found:
        rate = brief(one.events_per_s)
        table.add_row(f"{one.frame_events:,}", rate, f"{one.client:.0%}")
    return table


def _table(title: str, figures: Sequence[str]) -> Table:
    table = Table(title=title)
    table.add_column("case")
    for heading in figures:
        table.add_column(heading, justify="right")
    return table

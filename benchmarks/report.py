"""The report of `benchmarks.engine`: as tables, as JSON, as a plot."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.bound import Bound, Ceilings
from benchmarks.instructions import Instructions
from benchmarks.readiness import Readiness

DOTS_PER_INCH: Final = 120


class Row(NamedTuple):
    """One line of the result.

    Attributes:
        model: The configuration's name.
        case: The case's name.
        events_per_second: The median.
        ratio: The rate by the baseline's.
        bound_fraction: The rate by the bound of `benchmarks.bound`.
        p50_ms: Median latency of one call.
        p99_ms: 99th percentile of one call's latency.
    """

    model: str
    case: str
    events_per_second: float
    ratio: float
    bound_fraction: float
    p50_ms: float
    p99_ms: float


class Report(NamedTuple):
    """All measurements of one run."""

    instructions: Instructions
    ceilings: Ceilings
    bounds: dict[str, Bound]
    rows: list[Row]
    readiness: list[Readiness]


def to_json(report: Report) -> str:
    """Return the report, the machine and the versions as JSON."""
    bounds = {
        name: {**bound.work._asdict(), "events_per_second": bound.events_per_second}
        for name, bound in report.bounds.items()
    }
    written: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "instructions": report.instructions._asdict(),
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "ceilings_per_second": report.ceilings._asdict(),
        "bounds_per_event": bounds,
        "cases": [row._asdict() for row in report.rows],
        "readiness": [one._asdict() for one in report.readiness],
    }
    return json.dumps(written, indent=1) + "\n"


def tables(report: Report) -> list[Table]:
    """Return the report as tables."""
    return [_bounds(report), _cases(report), _readiness(report.readiness)]


def _cases(report: Report) -> Table:
    shown = _table(
        f"events per second, {jax.devices()[0].device_kind}, {report.instructions}",
        ("model", "case"),
        ("events/s", "ratio", "of bound", "p50 ms", "p99 ms"),
    )
    for row in report.rows:
        shown.add_row(
            row.model,
            row.case,
            f"{row.events_per_second:,.0f}",
            f"{row.ratio:.1f}×",
            f"{row.bound_fraction:.1%}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
        )
    return shown


def _bounds(report: Report) -> Table:
    """Show an event's costs, the machine's ceilings, and the rates these allow."""
    shown = _table(
        "the bound: the least rate of the three",
        ("model", "", "an event", "the machine, a second", "events/s"),
        (),
    )
    for name, bound in report.bounds.items():
        parts = zip(bound.work._fields, bound.work, report.ceilings, strict=True)
        for part, cost, most in parts:
            rate = f"{most / cost:,.0f}"
            shown.add_row(name, part, f"{cost:,.0f}", f"{most:.3g}", rate)
    return shown


def _readiness(starts: list[Readiness]) -> Table:
    shown = _table("from the command to readiness", ("model", "cache"), ("seconds",))
    for one in starts:
        shown.add_row(one.model, one.cache, f"{one.seconds:.1f}")
    return shown


def _table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for heading in words:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def plot(report: Report, path: Path) -> None:
    """Draw the rates of every case, one panel a configuration, with the bound."""
    count = len(report.bounds)
    figure = Figure(figsize=(9.0, 0.6 + 3.2 * count), layout="constrained")
    for place, (name, bound) in enumerate(report.bounds.items(), start=1):
        axes = figure.add_subplot(count, 1, place)
        rows = [row for row in report.rows if row.model == name][::-1]
        places = np.arange(len(rows))
        axes.barh(places, [row.events_per_second / 1e6 for row in rows])
        axes.set_yticks(places, [row.case for row in rows])
        axes.axvline(bound.events_per_second / 1e6, color="black", linestyle=":")
        axes.set(title=f"{name} (dotted: the bound)", xlabel="million events/s")
    figure.savefig(path, dpi=DOTS_PER_INCH)

"""The result of `saccade bench`: as a table, as JSON, as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from saccade.clients.benchmark.measured import Measured
from saccade.clients.display.text import brief, milliseconds

HEADINGS: Final = ("sessions", "events/s", "results/s", "p50", "p99", "p99.9")
PERCENTILES: Final = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0)
DOTS_PER_INCH: Final = 120
BUSY: Final = 0.8
"""Share of a core above which a client's process may itself be what is measured."""


@dataclass(frozen=True)
class Step:
    """One load, and what was measured of it.

    Attributes:
        sessions: How many sessions.
        processes: Client processes that ran them.
        measured: What was measured.
        passed: Whether it met the bound; None where there is none.
    """

    sessions: int
    processes: int
    measured: Measured
    passed: bool | None = None

    @property
    def client_share(self) -> float:
        """CPU time of a client's process by the time that it ran."""
        time_s = self.measured.elapsed_s * self.processes
        return self.measured.cpu_s / time_s if time_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the step as JSON values."""
        return {
            "sessions": self.sessions,
            "processes": self.processes,
            "passed": self.passed,
            "client_cpu_share": self.client_share,
            **self.measured.summary(),
        }


def failures(measured: Measured, p99_ms: float) -> list[str]:
    """Return in what a load was not served well; empty where it was."""
    found = [
        f"{count:,} {what}"
        for what, count in (
            ("events dropped", measured.dropped),
            ("ticks late", measured.late),
            ("results left out", measured.left_out),
            ("frames refused", measured.refused),
            ("sessions lost", len(measured.lost)),
        )
        if count
    ]
    p99_s = measured.latency.percentile(99)
    if p99_s is None:
        found.append("no score came")
    elif 1e3 * p99_s > p99_ms:
        found.append(f"p99 above {p99_ms:g} ms")
    return found


def table(title: str, steps: Sequence[Step], p99_ms: float | None) -> Table:
    """Return the steps as a table; with a bound, each one's verdict."""
    # 80 columns hold it, but for a long verdict, which is wrapped.
    shown = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in (*HEADINGS, "lag", "client"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("")
    for step in steps:
        one = step.measured
        times = [one.latency.percentile(p) for p in (50, 99, 99.9)]
        shown.add_row(
            f"{step.sessions:,}",
            brief(one.events_per_s),
            brief(one.results_per_s),
            *("–" if s is None else milliseconds(1e3 * s) for s in times),
            milliseconds(1e3 * one.greatest_lag_s),
            f"{step.client_share:.0%}",
            _remark(step, p99_ms),
        )
    return shown


def _remark(step: Step, p99_ms: float | None) -> str:
    found = failures(step.measured, p99_ms or float("inf"))
    if step.client_share > BUSY:
        found.append("the client was busy")
    return ", ".join(found) or ("served" if step.passed else "")


def to_json(report: dict[str, Any]) -> str:
    """Return the report as JSON text."""
    return json.dumps(report, indent=1) + "\n"


def draw(path: Path, title: str, steps: Sequence[Step], p99_ms: float | None) -> None:
    """Draw p99 by sessions, or the latencies of one step; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, yscale="log", ylabel="ms from due to scored")
    if len(steps) > 1:
        ordered = sorted(steps, key=lambda step: step.sessions)
        for percent in (50, 99):
            points = [
                (step.sessions, 1e3 * s)
                for step in ordered
                if (s := step.measured.latency.percentile(percent)) is not None
            ]
            axes.plot(*zip(*points, strict=True), marker="o", label=f"p{percent}")
        axes.set_xlabel("sensors")
    else:
        latency = steps[0].measured.latency
        times = [1e3 * (latency.percentile(p) or 0.0) for p in PERCENTILES]
        axes.plot(range(len(times)), times, marker="o", label="latency")
        axes.set_xticks(range(len(times)), [f"{p:g}" for p in PERCENTILES])
        axes.set_xlabel("percentile")
    if p99_ms is not None:
        axes.axhline(p99_ms, color="black", linestyle=":", label=f"{p99_ms:g} ms")
    axes.legend()
    figure.savefig(path, dpi=DOTS_PER_INCH)

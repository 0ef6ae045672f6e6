"""Benchmark of the two backends: native code beside XLA's program, shape by shape.

    python -m benchmarks.backends [--model NAME] [--instructions avx2]
        [--seconds S] [--json PATH]

The shapes are those that a server compiles by default on a CPU. Native code and XLA's
program are timed in turn in one run; a ratio is of the medians in that run. A server
takes one backend for all shapes (`server/engine/backend_choice.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cases import Model, Shape, recurrent_cases
from benchmarks.instructions import RESTRICTIONS, instructions, restrict
from benchmarks.serve_cases import RANDOM_MODEL, served_models
from benchmarks.timing import interleave
from saccade.server.engine.scheduler import buckets_for

MODELS: Final = (RANDOM_MODEL, "motions", "nmnist")
BACKENDS: Final = ("fastest", "xla")
SECONDS: Final = 20.0
MOST_SESSIONS: Final = 1024


class Compared(NamedTuple):
    """The rates of one shape.

    Attributes:
        model: The model's name.
        case: The shape's name.
        native_events_per_second: Of native code, the median.
        xla_events_per_second: Of XLA's program, the median.
        ratio: Native code's rate by XLA's.
    """

    model: str
    case: str
    native_events_per_second: float
    xla_events_per_second: float
    ratio: float


def served_shapes(tick_events: int) -> list[Shape]:
    """Return the shapes that a server has by default on a CPU, compiled or in place."""
    shapes = buckets_for("cpu", MOST_SESSIONS, tick_events, in_place=True)
    return [Shape(*one) for one in shapes]


def compare(
    name: str, model: Model, shapes: list[Shape], budget_s: float
) -> list[Compared]:
    """Time each shape on both backends, all in turn."""
    cases = {one: recurrent_cases(model, shapes, one) for one in BACKENDS}
    calls = {f"{one} {c.name}": c.call for one in BACKENDS for c in cases[one]}
    taken = interleave(calls, budget_s)
    rows = []
    for case in cases["xla"]:
        ours, theirs = (
            case.events / float(np.median(taken[f"{one} {case.name}"]))
            for one in BACKENDS
        )
        rows.append(Compared(name, case.name, ours, theirs, ours / theirs))
    return rows


def table(rows: list[Compared]) -> Table:
    """Return the rates as a table."""
    shown = Table(title=f"native code beside XLA's program, {instructions()}")
    for heading in ("model", "case"):
        shown.add_column(heading)
    for heading in ("native, events/s", "XLA, events/s", "ratio"):
        shown.add_column(heading, justify="right")
    for row in rows:
        native, xla, ratio = row[2:]
        shown.add_row(*row[:2], f"{native:,.0f}", f"{xla:,.0f}", f"{ratio:.2f}×")
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends")
    parser.add_argument("--model", action="append", choices=MODELS, help="not all")
    parser.add_argument(
        "--instructions",
        choices=RESTRICTIONS,
        help="compile as for a CPU that has no newer ones",
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="the time of a model's shapes"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args(argv)
    if options.instructions:
        restrict(options.instructions, "benchmarks.backends", argv)
    rows: list[Compared] = []
    with served_models(options.model or MODELS[:2]) as models:
        for served in models:
            shapes = served_shapes(served.model.config.tick_events)
            rows += compare(served.name, served.model, shapes, options.seconds)
    Console().print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

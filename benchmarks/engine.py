"""Benchmark of the recurrent mode: events per second, beside stateless windows.

    python -m benchmarks.engine [--quick] [--execution xla] [--instructions avx2]
        [--json PATH] [--plot PATH]

The baseline scores 256-event windows, each from a zero state (`benchmarks.baseline`).
The recurrent mode keeps the state: one stream in single ticks and in larger chunks, and
many sessions of one tick and of 16 each (`benchmarks.cases`). All cases of a
configuration are timed in turn in one run; a ratio is to the baseline's median in that
run, and a fraction is of the machine's bound (`benchmarks.bound`). Last, a server is
started with a cold and with a warm cache (`benchmarks.readiness`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from benchmarks.baseline import CONFIGURATIONS, NAMES
from benchmarks.bound import Bound, bound, measure_ceilings
from benchmarks.cases import BASELINE, Case, all_shapes, cases, draw, quick_shapes
from benchmarks.instructions import RESTRICTIONS, instructions, restrict
from benchmarks.readiness import until_ready
from benchmarks.report import Report, Row, plot, tables, to_json
from benchmarks.timing import Seconds, interleave
from saccade.model.backends import BACKENDS

BUDGET_S: Final = 60.0
QUICK_BUDGET_S: Final = 3.0


def measure(name: str, cases: list[Case], most: Bound, budget_s: float) -> list[Row]:
    """Time a configuration's cases, of which one is the baseline, in turn."""
    taken = interleave({case.name: case.call for case in cases}, budget_s)
    rates = {c.name: c.events / float(np.median(taken[c.name])) for c in cases}
    base, limit = rates[BASELINE], most.events_per_second
    return [
        Row(name, case, rate, rate / base, rate / limit, *_latency(taken[case]))
        for case, rate in rates.items()
    ]


def _latency(seconds: Seconds) -> tuple[float, float]:
    p50, p99 = 1e3 * np.percentile(seconds, [50, 99])
    return float(p50), float(p99)


def run(names: Sequence[str], backend: str, *, quick: bool) -> Report:
    """Measure these configurations; `quick` takes fewer cases and less time."""
    report = Report(instructions(), measure_ceilings(), {}, [], [])
    for name in names:
        model, tick = draw(CONFIGURATIONS[name]), CONFIGURATIONS[name].tick_events
        shapes = quick_shapes(tick) if quick else all_shapes(tick)
        budget_s = QUICK_BUDGET_S if quick else BUDGET_S
        most = report.bounds[name] = bound(model, report.ceilings)
        timed = cases(model, shapes, backend)
        report.rows.extend(measure(name, timed, most, budget_s))
        report.readiness.extend(until_ready(name, model))
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine")
    parser.add_argument(
        "--quick", action="store_true", help="few cases of one model, within a minute"
    )
    parser.add_argument("--model", action="append", choices=NAMES, help="not all")
    parser.add_argument(
        "--execution",
        choices=BACKENDS,
        default="fastest",
        help="the recurrent mode's backend",
    )
    parser.add_argument(
        "--instructions",
        choices=RESTRICTIONS,
        help="compile as for a CPU that has no newer ones (see "
        "benchmarks/instructions.py for the environment that this sets)",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw them, as PNG")
    options = parser.parse_args(argv)
    if options.instructions:
        restrict(options.instructions, "benchmarks.engine", argv)
    names = options.model or (NAMES[:1] if options.quick else NAMES)
    report = run(names, options.execution, quick=options.quick)
    console = Console()
    for table in tables(report):
        console.print(table)
    if options.json:
        options.json.write_text(to_json(report))
    if options.plot:
        plot(report, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Run the model, or measure real replicas beside it; see the package's docstring."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks.scale.costs import CallTimes
from benchmarks.scale.fleet import FleetShape, Loss
from benchmarks.scale.hosts import MEASURED, hosts, read_costs
from benchmarks.scale.report import Answers, comparison_table, plot, tables
from benchmarks.scale.scenarios import (
    PERIODS_S,
    SENSORS,
    Moved,
    fleet_of,
    lose_zone,
    period,
    roll,
    sizing,
)

ROW_BYTES: Final = 13_900
"""A snapshot of dvs/small."""
WIDTH: Final = 150
"""Columns of the tables in a file."""
CAPACITY_S: Final = 4.0
QUICK_CAPACITY_S: Final = 1.0
ROUNDS, ROUND_S = 4, 2.0
PACE_S: Final = 10.0
TIGHT: Final = 0.95
"""Share of its capacity that a fleet without room for a lost zone uses."""

Progress = Callable[[str], None]


def answer(
    options: argparse.Namespace, accelerator: CallTimes | None, progress: Progress
) -> Answers:
    """Answer every question; `--quick` has smaller fleets."""
    seed, quick = options.seed, options.quick
    seconds = QUICK_CAPACITY_S if quick else CAPACITY_S
    carriers = []
    for host in hosts(read_costs(options.costs), accelerator):
        progress(f"what one replica carries: {host.name}")
        carriers.append(host.carrier(seconds, seed))
    save_s = FleetShape(1, 1, 1, 1, 1, 1).redis.save_s
    sizings = [sizing(one, sensors, save_s) for one in carriers for sensors in SENSORS]
    sensors = SENSORS[0] if quick else SENSORS[1]
    (fleet_size,) = (
        one
        for one in sizings
        if one.carrier == carriers[0].name and one.sensors == sensors
    )
    shape = fleet_of(carriers[0], sensors, fleet_size.with_zones)
    tight = replace(shape, replicas=math.ceil(sensors / (TIGHT * shape.capacity)))
    progress(f"a fleet of {shape.replicas} replicas and {sensors:,} sensors")
    return Answers(
        seed,
        carriers,
        sizings,
        _losses(shape, tight, seed),
        _rolls(shape, seed),
        [period(shape, one, ROW_BYTES, seed) for one in PERIODS_S],
    )


def _losses(shape: FleetShape, tight: FleetShape, seed: int) -> list[Moved]:
    cases: list[tuple[str, FleetShape, Loss]] = [
        ("killed", shape, "killed"),
        ("killed; by heartbeats", replace(shape, suspecting=False), "killed"),
        ("killed; placement 4 ms", replace(shape, placement_s=0.004), "killed"),
        ("silent", shape, "silent"),
        (f"killed; {TIGHT:.0%} full", tight, "killed"),
    ]
    return [
        lose_zone(name, one, loss, replaced=True, seed=seed)
        for name, one, loss in cases
    ]


def _rolls(shape: FleetShape, seed: int) -> list[Moved]:
    at_once = max(1, shape.replicas // 8)
    return [
        roll(policy, replace(shape, placed=policy), at_once, PACE_S, seed)
        for policy in ("newest", "least loaded", "any")
    ]


def validate(progress: Progress, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure real replicas, print predictions beside them, and return both."""
    # JAX, and what the server needs of it, only where servers are measured.
    from benchmarks.scale.measured import measure
    from benchmarks.scale.validation import compare, costs_of
    from saccade.clients.benchmark.machine import machine

    cores = len(os.sched_getaffinity(0))
    progress("measuring servers: the machine should do nothing else")
    found = measure(rounds, seconds)
    comparisons = compare(found, cores)
    Console(width=WIDTH).print(comparison_table(comparisons))
    return {
        "machine": machine(),
        "costs": costs_of(found, cores).to_json(),
        "measured": found.to_json(),
        "comparisons": [one.to_json() for one in comparisons],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--quick", action="store_true", help="small fleets, a minute")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: 0)")
    parser.add_argument(
        "--validate", action="store_true", help="measure servers, and predict them"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of --validate")
    parser.add_argument(
        "--costs",
        type=Path,
        default=MEASURED,
        metavar="PATH",
        help="the JSON of --validate to take the costs from",
    )
    parser.add_argument(
        "--engine",
        type=Path,
        metavar="PATH",
        help="the JSON of benchmarks.engine on an accelerator, instead of estimates",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all here")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw pictures")
    options = parser.parse_args(argv)

    def progress(what: str) -> None:
        sys.stderr.write(f"{what}\n")

    if options.validate:
        written = validate(progress, options.rounds, ROUND_S)
    else:
        written = _model(parser, options, progress)
    if options.json:
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    return 0


def _model(
    parser: argparse.ArgumentParser, options: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    try:
        accelerator = (
            CallTimes.read(options.engine, "dvs/small", 256) if options.engine else None
        )
        answers = answer(options, accelerator, progress)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in tables(answers):
        console.print(table)
    if options.plot:
        for path in plot(answers, options.plot):
            progress(f"drew {path}")
    return answers.to_json()


if __name__ == "__main__":
    sys.exit(main())

"""The command `saccade bench`: measure what a running server serves."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import math
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from saccade.clients import http
from saccade.clients.benchmark import report
from saccade.clients.benchmark.capacity import Search
from saccade.clients.benchmark.crew import Crew, Probed, default_processes, probe
from saccade.clients.benchmark.machine import machine
from saccade.clients.benchmark.measured import Measured
from saccade.clients.benchmark.report import Step
from saccade.clients.benchmark.session import Load
from saccade.clients.benchmark.worker import RANDOM
from saccade.clients.commands import arguments
from saccade.clients.commands.arguments import choose_model, print_message
from saccade.clients.errors import ClientError, LoadFailed, UnplayableSource
from saccade.clients.sources import open_source
from saccade.model.events.sensor import Sensor

COMMAND: Final = "bench"
SENSOR_RATE: Final = 100_000.0
FRAME_S: Final = 0.01
"""How long a frame lasts by default, where there is a rate."""
FAST_FRAME_EVENTS: Final = 4096
SECONDS: Final = 5.0
P99_MS: Final = 25.0
MOST_SESSIONS: Final = 1024
GRACE_S: Final = 5.0

DESCRIPTION: Final = """\
Measure a running server: sessions at a rate, or at full speed, and how long each score
takes. A sensor's events count from when they are due, so what waits is charged to the
server. --ramp searches the capacity: the most sensors of a rate that are served with
p99 under a bound, and nothing dropped or late.
"""
EPILOG: Final = """\
examples:
  saccade bench                                   one session at full speed
  saccade bench --sessions 20 --rate 100000       20 sensors
  saccade bench --ramp --p99-ms 25 --json it.json how many sensors of 100,000 events/s

Run it on another machine than the server's, or it takes the server's cores. The API key
comes from SACCADE_KEY, a certificate authority of your own from SACCADE_CA.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog=f"saccade {COMMAND}",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "url",
        metavar="URL",
        nargs="?",
        type=arguments.url,
        default=arguments.DEFAULT_URL,
        help="the server's address (default: %(default)s)",
    )
    add("--model", metavar="NAME", help="which model to ask (default: the first)")
    _add_load(parser)
    arguments.add_recording_options(parser)
    _add_measuring(parser)
    return parser


def _add_load(parser: argparse.ArgumentParser) -> None:
    """Add what each session sends, and when results come."""
    add = parser.add_argument
    add("--sessions", metavar="N", type=arguments.count, help="sessions (default: 1)")
    add(
        "--rate",
        metavar="R",
        type=arguments.speed,
        help="events/s of each session, or max (default: max; 100,000 with --ramp)",
    )
    add(
        "--frame-events",
        metavar="N",
        type=arguments.count,
        help="events a frame (default: those of 10 ms; 4,096 at full speed)",
    )
    add(
        "--report",
        type=arguments.report,
        default="tick",
        help=f"when results come: {arguments.REPORTS} (default: %(default)s)",
    )
    add(
        "--source",
        metavar="SOURCE",
        default="sim:motions",
        help="a recording, a simulated camera, or random: the first events, whose "
        "times are made even (default: %(default)s)",
    )


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--seconds",
        metavar="S",
        type=_seconds,
        default=SECONDS,
        help="how long each load runs (default: %(default)g)",
    )
    add(
        "--p99-ms",
        metavar="MS",
        type=arguments.milliseconds,
        help=f"bound on the 99th percentile (default with --ramp: {P99_MS:g})",
    )
    add("--ramp", action="store_true", help="search the most sensors within the bound")
    add(
        "--max-lag-ms",
        metavar="MS",
        type=arguments.count,
        help="ask the server to keep each session's lag within this",
    )
    add(
        "--when-full",
        choices=("block", "drop-oldest"),
        default="block",
        help="what becomes of events that come too fast (default: %(default)s)",
    )
    add(
        "--processes",
        metavar="N",
        type=arguments.count,
        help="client processes (default: half of the cores)",
    )
    add("--json", metavar="PATH", type=Path, help="write the numbers here")
    add("--png", metavar="PATH", type=Path, help="draw them, as PNG")


def execute(options: argparse.Namespace) -> int:
    """Run the command, and return its exit status: 1 where a bound was not met."""
    _check(options)
    model = options.model or _choose_model(options)
    opening = _opening(options, model)
    found = asyncio.run(probe(options.url, opening))
    bench = Bench(options, opening, found)
    steps = bench.ramp() if options.ramp else [bench.measure(options.sessions or 1)]
    bound = options.p99_ms
    title = bench.title(model)
    Console().print(report.table(title, steps, bound))
    if options.ramp:
        sys.stdout.write(bench.verdict(steps))
    if options.json:
        options.json.write_text(report.to_json(bench.to_json(model, steps)))
    if options.png:
        report.draw(options.png, title, steps, bound)
    return 0 if any(step.passed is not False for step in steps) else 1


class Bench:
    """The loads of one invocation.

    Args:
        options: The command's options.
        opening: The fields of every session's `open`.
        found: What is known of the model.
    """

    def __init__(
        self, options: argparse.Namespace, opening: dict[str, Any], found: Probed
    ) -> None:
        self._options = options
        self._probed = found
        rate = None if options.rate == math.inf else options.rate
        fitting = max(1, round(FRAME_S * rate)) if rate else FAST_FRAME_EVENTS
        self._load = Load(
            opening, options.frame_events or fitting, rate, held_back=found.held_back
        )

    def measure(self, sessions: int) -> Step:
        """Run so many sessions once."""
        options = self._options
        processes = options.processes or default_processes(sessions)
        load = self._load
        with Crew(options.url, load, sessions, processes, options.source) as crew:
            measured = crew.run(options.seconds, GRACE_S)
            crew.close()
        bound = options.p99_ms
        passed = None if bound is None else not report.failures(measured, bound)
        return Step(sessions, crew.processes, measured, passed)

    def ramp(self) -> list[Step]:
        """Search the capacity; return every load that was tried."""
        search = Search(self._options.sessions or MOST_SESSIONS)
        steps: list[Step] = []
        while (sessions := search.next) is not None:
            print_message(COMMAND, f"{sessions:,} sensors")
            step = self._tried(sessions)
            steps.append(step)
            search.record(sessions, passed=bool(step.passed))
        return steps

    def _tried(self, sessions: int) -> Step:
        """Run so many sessions; where the server refuses one, they have failed."""
        try:
            return self.measure(sessions)
        except ClientError as error:
            if sessions == 1:
                raise
            print_message(COMMAND, str(error))
            measured = Measured(sessions=sessions, lost=[str(error)])
            return Step(sessions, 1, measured, passed=False)

    def title(self, model: str) -> str:
        """Name the load."""
        load, options = self._load, self._options
        rate = "full speed" if load.rate is None else f"{load.rate:,.0f} events/s"
        every = asdict(options.report)["every"]
        return f"{model}, {rate}, frames of {load.frame_events:,}, report {every}"

    def verdict(self, steps: list[Step]) -> str:
        """Say the capacity in a sentence."""
        options, rate = self._options, self._load.rate
        most = max((step.sessions for step in steps if step.passed), default=0)
        limit = options.sessions or MOST_SESSIONS
        more = " or more (--sessions N tries up to N)" if most == limit else ""
        return (
            f"capacity: {most:,} sensors{more} of {rate:,.0f} events/s with p99 under "
            f"{options.p99_ms:g} ms and nothing dropped or late\n"
        )

    def to_json(self, model: str, steps: list[Step]) -> dict[str, Any]:
        """Return everything as JSON values."""
        options, opened = self._options, self._probed.opened
        capacity = max((step.sessions for step in steps if step.passed), default=0)
        return {
            "url": options.url,
            "model": model,
            "load": asdict(self._load),
            "source": options.source,
            "seconds": options.seconds,
            "p99_bound_ms": options.p99_ms,
            "capacity": capacity if options.ramp else None,
            "steps": [step.to_json() for step in steps],
            "client": machine(),
            "server": {
                name: opened.get(name)
                for name in ("model_hash", "tick_events", "window_events")
            }
            | _server_facts(options.url),
        }


def _server_facts(url: str) -> dict[str, Any]:
    """Return the labels of the server's `…_info` metrics; empty without any."""
    try:
        samples = http.metrics(url)
    except (ClientError, ModuleNotFoundError):
        return {}
    return {one.name: one.labels for one in samples if one.name.endswith("_info")}


def _check(options: argparse.Namespace) -> None:
    """Settle what depends on other options; raise LoadFailed for what cannot be."""
    if options.ramp:
        options.rate = options.rate or SENSOR_RATE
        options.p99_ms = options.p99_ms or P99_MS
    options.rate = options.rate or math.inf
    if options.ramp and options.rate == math.inf:
        raise LoadFailed("--ramp needs a rate: --rate 100000")
    if options.png and importlib.util.find_spec("matplotlib") is None:
        raise LoadFailed(
            "--png needs the package 'matplotlib', which is not installed; "
            "pip install 'saccade[train]' brings it"
        )
    for path in (options.json, options.png):
        if path is not None and not path.parent.is_dir():
            raise LoadFailed(f"there is no folder {path.parent} to write {path} into")


def _choose_model(options: argparse.Namespace) -> str:
    sensor = _sensor(options) or Sensor(1, 1)
    return choose_model(options.url, sensor, partial(print_message, COMMAND))


def _sensor(options: argparse.Namespace) -> Sensor | None:
    """Return the sensor of the source; None for random events."""
    if options.source == RANDOM:
        return None
    return open_source(options.source, options.sensor, options.clock_bits).sensor


def _opening(options: argparse.Namespace, model: str) -> dict[str, Any]:
    """Return the fields of `open`."""
    sensor = _sensor(options)
    if sensor is None:
        served = {card.name: card.sensor for card in http.models(options.url)}
        if model not in served:
            raise UnplayableSource(options.source, f"the server has no model {model!r}")
        sensor = served[model]
    chosen = {name: v for name, v in asdict(options.report).items() if v is not None}
    opening = {
        "model": model,
        "sensor": sensor.to_list(),
        "fit": "scale",
        "report": chosen,
        "when_full": options.when_full,
    }
    if options.max_lag_ms is not None:
        opening["max_lag_ms"] = options.max_lag_ms
    return opening


def _seconds(text: str) -> float:
    return 1e-3 * arguments.milliseconds(f"{float(text) * 1e3}")

"""Benchmark of the whole way: from a client's socket to its scores.

    python -m benchmarks.serve [--quick] [--model NAME] [--workers N] [--json PATH]

A server process serves dvs/small with random weights, and the released models. Clients
in processes of their own send frames made before (`saccade.clients.benchmark`). A case
runs in slices; after each slice of the server, which is then idle, the same model is
driven directly in this process for a slice, so that a noisy machine disturbs both. The
share is the served rate by that of the engine alone.

A sensor's latency counts from when the last event of a tick is due, whether or not it
could be sent then; at full speed, from when it was sent. The overload asks for three
times of what was just measured. Last, the clients alone send to a process that counts
(`benchmarks.sink`): they must be faster than any server.

`--quick` measures seven cases, each for 1.6 s, and the overload of `motions`: one
session in frames of 4,096 with every tick reported of all three models; of dvs/small
also a report every 100 ms, frames of 256, and 64 sessions; of `motions` 20 sensors. It
leaves out frames of 32,768, `flush`, 16 sessions and the other overloads. It ends the
process that compares the backends beside a server's first start, where a whole run
waits for it: both serve with the backend that the start took.

`--model free` serves a model that costs nothing (`benchmarks.free_backend`), and shows
each process's CPU time for an event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console

import benchmarks.kept  # noqa: F401 before all that imports JAX
from benchmarks import free_backend
from benchmarks.comparison import await_comparison, end_comparison
from benchmarks.free_backend import serving_free
from benchmarks.processes import label, resident_mib, thread_times_s
from benchmarks.serve_cases import (
    FRAME_EVENTS,
    RANDOM_MODEL,
    SENSORS,
    Case,
    EngineRate,
    Served,
    all_cases,
    quick_cases,
    sensors,
    served_models,
    served_name,
    shape_of,
)
from benchmarks.serve_report import Ceiling, Report, Row, tables
from benchmarks.sink import sink
from saccade.clients.benchmark.crew import Crew, Probed, default_processes, probe
from saccade.clients.benchmark.machine import machine
from saccade.clients.benchmark.measured import Measured
from saccade.clients.benchmark.session import Load
from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.errors import StreamError

MODELS: Final = (RANDOM_MODEL, "motions", "nmnist")
FREE: Final = free_backend.NAME
OVERLOAD: Final = 3.0
MAX_LAG_MS: Final = 100
WITHIN_SHARE: Final = 0.5
"""Rate of the sensor that keeps within its share, by that share."""
CLOSE_S: Final = 10.0
WIDTH: Final = 120
"""Columns of the tables in a file."""


class Budget(NamedTuple):
    """How long a case takes.

    Attributes:
        slices: Slices of the server, each followed by one of the engine alone.
        served_s: How long a served slice sends.
        engine_s: How long a slice of the engine is.
        grace_s: How long the last scores of a slice may take.
    """

    slices: int = 4
    served_s: float = 2.0
    engine_s: float = 0.7
    grace_s: float = 10.0


QUICK: Final = Budget(slices=2, served_s=0.8, engine_s=0.4, grace_s=3.0)


class Bench:
    """A server, and the models to compare it with.

    Args:
        server: The server's process, ready.
        models: The models.
        budget: How long each case takes.
    """

    def __init__(
        self, server: ServerProcess, models: Sequence[Served], budget: Budget
    ) -> None:
        self._server = server
        self._models = {one.name: one for one in models}
        self._budget = budget
        self._engines: dict[Any, EngineRate] = {}
        self._probes: dict[str, Probed] = {}

    def measure(self, case: Case) -> Row:
        """Measure a case."""
        with self._crew(case, self._load(case)) as crew:
            return self._slices(case, crew)

    def overload(self, model: str, sensors_count: int = SENSORS) -> list[Row]:
        """Measure three times of what the server can do, beside one modest sensor.

        Returns:
            The overload; the modest sensor beside it; the modest sensor alone.
        """
        case = sensors(model, sensors_count)
        fast = case._replace(rate=None)
        with self._crew(fast, self._load(fast)) as crew:
            capacity = crew.run(self._budget.served_s, self._budget.grace_s)
        share = capacity.events_per_s / sensors_count
        live = self._live_fields(model)
        heavy, modest = (
            sensors(model, count, rate)
            for count, rate in (
                (sensors_count - 1, OVERLOAD * share),
                (1, WITHIN_SHARE * share),
            )
        )
        note = "".join(f", {name} {value}" for name, value in live.items())
        named = [
            heavy._replace(label=f"{OVERLOAD:g}× overload{note}"),
            modest._replace(label="modest, beside it"),
            modest._replace(label="modest, alone"),
        ]
        fields = {"when_full": "drop-oldest", **live}
        modest_load = self._load(modest, **fields)
        with self._crew(modest, modest_load) as crew:
            alone = self._slices(named[2], crew)
        with (
            self._crew(heavy, self._load(heavy, **fields)) as crew,
            self._crew(modest, modest_load) as other,
        ):
            return [*self._beside(named[:2], crew, other), alone]

    def _beside(self, cases: Sequence[Case], *crews: Crew) -> list[Row]:
        """Run two loads at the same time."""
        budget = self._budget
        before = thread_times_s(self._server.pid)
        seconds = budget.slices * budget.served_s
        plan = crews[0].begin(seconds, budget.grace_s)
        crews[1].begin(seconds, budget.grace_s, plan.start_s)
        found = [crew.finish(plan) for crew in crews]
        threads = self._threads(before, found[0].elapsed_s)
        return [  # the threads worked for both; they stand in the first row
            self._row(case, crew, measured, {} if place else threads)
            for place, (case, crew, measured) in enumerate(
                zip(cases, crews, found, strict=True)
            )
        ]

    def _slices(self, case: Case, crew: Crew) -> Row:
        budget, engine = self._budget, self._engine(case)
        crew.run(budget.served_s / 4, budget.grace_s)
        total, threads = Measured(), defaultdict[str, float](float)
        for _ in range(budget.slices):
            before = thread_times_s(self._server.pid)
            part = crew.run(budget.served_s, budget.grace_s)
            for name, spent_s in self._threads(before, 1.0).items():
                threads[name] += spent_s
            total.follow(part)
            if engine is not None:
                engine.run(budget.engine_s)
            if not part.settled:
                break  # what waits would disturb the engine, and the next slice
        shares = {name: s / total.elapsed_s for name, s in threads.items()}
        rate = None if engine is None else engine.events_per_s
        return self._row(case, crew, total, shares, rate)

    def _row(
        self,
        case: Case,
        crew: Crew,
        measured: Measured,
        threads: dict[str, float],
        engine_events_per_s: float | None = None,
    ) -> Row:
        memory = resident_mib(self._server.pid)
        closed = crew.close(CLOSE_S) if measured.settled else None
        client = measured.cpu_s / (measured.elapsed_s * crew.processes)
        return Row(case, measured, engine_events_per_s, threads, client, memory, closed)

    def _threads(self, before: dict[Any, float], seconds: float) -> dict[str, float]:
        """Return each thread's CPU time since `before`, by so many seconds."""
        shares: defaultdict[str, float] = defaultdict(float)
        for thread, now_s in thread_times_s(self._server.pid).items():
            spent_s = now_s - before.get(thread, 0.0)
            shares[label(thread, self._server.pid)] += spent_s / seconds
        return shares

    def _engine(self, case: Case) -> EngineRate | None:
        """Return the engine's rate for a case's shape, anew; compiled once."""
        if case.model == FREE:
            return None
        key = case.model, shape_of(case.sessions)
        if key not in self._engines:
            self._engines[key] = EngineRate(self._models[case.model].model, key[1])
        self._engines[key].clear()
        return self._engines[key]

    def _load(self, case: Case, **fields: Any) -> Load:
        probed = self._probe(case.model)
        return case.load(probed.held_back, sensor=probed.opened["sensor"], **fields)

    def _crew(self, case: Case, load: Load) -> Crew:
        processes = default_processes(case.sessions)
        return Crew(self._server.url, load, case.sessions, processes)

    def _probe(self, model: str) -> Probed:
        if model not in self._probes:
            opening = {"model": served_name(model)}
            self._probes[model] = asyncio.run(probe(self._server.url, opening))
        return self._probes[model]

    def _live_fields(self, model: str) -> dict[str, int]:
        """Return the fields of `open` that ask for fresh scores, if there are."""
        opening = {"model": served_name(model), "max_lag_ms": MAX_LAG_MS}
        try:
            asyncio.run(probe(self._server.url, opening))
        except StreamError as error:
            if error.field != "max_lag_ms":
                raise
            return {}
        return {"max_lag_ms": MAX_LAG_MS}


def ceilings(budget: Budget) -> list[Ceiling]:
    """Measure what the clients alone can send, to a process that counts."""
    found = []
    with sink() as url:
        for frame_events in FRAME_EVENTS:
            case = Case("sink", 1, frame_events, "100 ms")
            with Crew(url, case.load(0, sensor=[128, 128]), 1) as crew:
                measured = crew.run(budget.served_s, budget.grace_s)
            cpu_share = measured.cpu_s / measured.elapsed_s
            found.append(Ceiling(frame_events, measured.events_per_s, cpu_share))
    return found


@contextmanager
def server_of(
    models: Sequence[Served],
    arguments: Sequence[str],
    settle: Callable[[int], None] = await_comparison,
) -> Iterator[ServerProcess]:
    """Serve these models.

    Args:
        models: The models.
        arguments: Further arguments of `saccade serve`.
        settle: Takes the id of the server, once it is ready, and returns when nothing
            runs beside it.
    """
    named = [text for one in models for text in ("--model", str(one.folder))]
    served_free = any(one.name == FREE for one in models)
    with (
        serving_free() if served_free else nullcontext(),
        ServerProcess([*named, *arguments]) as server,
    ):
        server.wait_until_ready(lambda _: None)
        settle(server.pid)
        yield server


def run(
    names: Sequence[str], arguments: Sequence[str], budget: Budget, *, quick: bool
) -> Report:
    """Measure these models."""
    rows: list[Row] = []
    settle = end_comparison if quick else await_comparison
    with served_models(names) as models, server_of(models, arguments, settle) as server:
        bench = Bench(server, models, budget)
        for name in names:
            for case in quick_cases(name) if quick else all_cases(name):
                rows.append(bench.measure(case))
                _progress(rows[-1])
            if name == "motions" or not (quick or name == FREE):
                rows += bench.overload(name)
    return Report(machine(), [*arguments], rows, ceilings(budget))


def _progress(row: Row) -> None:
    rate = row.measured.events_per_s
    sys.stderr.write(f"{row.case.model}: {row.case.name}: {rate:,.0f} events/s\n")


def server_arguments(options: argparse.Namespace) -> list[str]:
    """Return the further arguments of `saccade serve`."""
    arguments = ["--snapshot-s", "0"] if options.store == "off" else []
    if options.workers is not None:
        arguments += ["--workers", str(options.workers)]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve")
    parser.add_argument("--quick", action="store_true", help="few cases, within 90 s")
    parser.add_argument("--model", action="append", choices=(*MODELS, FREE))
    parser.add_argument("--slices", type=int, metavar="N", help="slices of a case")
    parser.add_argument("--seconds", type=float, metavar="S", help="of a served slice")
    parser.add_argument(
        "--store",
        choices=("memory", "off"),
        default="memory",
        help="where the server keeps sessions; off: no snapshots (default: memory)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="saccade serve's")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args(argv)
    if FREE in (options.model or ()) and len(options.model) > 1:
        parser.error(f"the model {FREE} is measured alone")
    budget = QUICK if options.quick else Budget()
    budget = budget._replace(
        slices=options.slices or budget.slices,
        served_s=options.seconds or budget.served_s,
    )
    report = run(
        options.model or MODELS, server_arguments(options), budget, quick=options.quick
    )
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in tables(report):
        console.print(table)
    if options.json:
        options.json.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

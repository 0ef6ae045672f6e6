"""Benchmark of watching: what a watcher costs the session that it watches.

    python -m benchmarks.watch [--quick] [--rounds N] [--seconds S] [--json PATH]

A server process serves the model that costs nothing (`benchmarks.free_backend`), whose
sessions show the server's own work, and `motions`. A session sends at full speed. Each
round has two slices, one watched and one not, in turn first, so that a noisy machine
disturbs both alike; a ratio is of one round's two slices. The event loop's CPU time for
an event tells the cost where other programs share the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
from rich.console import Console
from rich.table import Table
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import benchmarks.kept  # noqa: F401 before all that imports JAX
from benchmarks import free_backend
from benchmarks.processes import thread_times_s
from benchmarks.serve import server_of
from benchmarks.serve_cases import Case, served_models, served_name
from saccade.clients import http
from saccade.clients.benchmark.crew import Crew, default_processes
from saccade.clients.commands.server_process import ServerProcess

FREE: Final = free_backend.NAME
CASES: Final = (
    Case(FREE, 1, 256, "100 ms"),
    Case(FREE, 1, 4096, "100 ms"),
    Case("motions", 1, 4096, "tick"),
    Case("motions", 4, 1024, "100 ms"),
)
QUICK: Final = (CASES[0], CASES[2])
GRACE_S: Final = 10.0
HELD_BACK: Final = 1
"""No latency is measured: of all models the most."""
WARM_UP_S: Final = 3.0
RATE: Final = 50_000
"""Events a second that a watcher asks for, the default of the wire."""


class Slice(NamedTuple):
    """What one slice came to."""

    events_per_s: float
    cpu_us_an_event: float


class Row(NamedTuple):
    """One case: its rounds, each a slice alone and one watched."""

    case: Case
    rounds: list[tuple[Slice, Slice]]
    shown: int

    @property
    def throughput(self) -> list[float]:
        """Events a second watched by those alone, of each round."""
        return [watched[0] / alone[0] for alone, watched in self.rounds]

    @property
    def cpu(self) -> list[float]:
        """The event loop's CPU time for an event, watched by alone, of each round."""
        return [watched[1] / alone[1] for alone, watched in self.rounds]


class Watchers:
    """One watcher of every session of a server, each in a thread that only reads.

    Attributes:
        shown: Bytes of messages that came.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.shown = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch all sessions while the context lasts."""
        root = self._url.replace("http", "ws", 1)
        with ExitStack() as stack:
            for name in session_names(self._url):
                url = f"{root}/v1/sessions/{name}/watch?max_events_per_s={RATE}"
                socket = stack.enter_context(connect(url, max_size=None))
                thread = threading.Thread(target=self._read, args=(socket,))
                thread.start()
                stack.callback(thread.join)
                stack.callback(socket.close)
            yield

    def _read(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            for message in socket:
                self.shown += len(message)


def session_names(url: str) -> list[str]:
    """Return the names of the sessions that a server has now."""
    found = httpx.get(f"{url}/v1/sessions").raise_for_status().json()
    return [each["session"] for each in found["sessions"]]


def measure(server: ServerProcess, case: Case, rounds: int, seconds: float) -> Row:
    """Measure a case."""
    name = served_name(case.model)
    served = next(one for one in http.models(server.url) if one.name == name)
    load = case.load(HELD_BACK, sensor=served.sensor.to_list())
    watchers, pairs = Watchers(server.url), []
    processes = default_processes(case.sessions)
    with Crew(server.url, load, case.sessions, processes) as crew:
        crew.run(WARM_UP_S, GRACE_S)
        for number in range(rounds):
            found = {}
            for watched in (False, True) if number % 2 else (True, False):
                with watchers.watching() if watched else ExitStack():
                    found[watched] = one_slice(server, crew, seconds)
            pairs.append((found[False], found[True]))
        crew.close(GRACE_S)
    return Row(case, pairs, watchers.shown)


def one_slice(server: ServerProcess, crew: Crew, seconds: float) -> Slice:
    """Send for so long; return what it came to."""
    before_s = event_loop_s(server)
    measured = crew.run(seconds, GRACE_S)
    spent_s = event_loop_s(server) - before_s
    return Slice(measured.events_per_s, 1e6 * spent_s / measured.scored_events)


def event_loop_s(server: ServerProcess) -> float:
    """Return the CPU time of the server's event loop so far; watching is its work."""
    times = thread_times_s(server.pid).items()
    return sum(seconds for thread, seconds in times if thread.thread == server.pid)


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table: medians, and the rounds' quartiles."""
    found = Table("case", "events/s alone", "watched ÷ alone", "CPU an event, likewise")
    for row in rows:
        alone = statistics.median(pair[0].events_per_s for pair in row.rounds)
        name = f"{row.case.model}: {row.case.name}"
        found.add_row(name, f"{alone:,.0f}", spread(row.throughput), spread(row.cpu))
    return found


def spread(ratios: Sequence[float]) -> str:
    """Write a median with the quartiles around it."""
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def run(cases: Sequence[Case], rounds: int, seconds: float) -> list[Row]:
    """Measure cases, model by model."""
    rows = []
    for name in dict.fromkeys(case.model for case in cases):
        with served_models([name]) as models, server_of(models, []) as server:
            for case in cases:
                if case.model == name:
                    rows.append(measure(server, case, rounds, seconds))
                    sys.stderr.write(f"{name}: {case.name} is measured\n")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch")
    parser.add_argument("--quick", action="store_true", help="two cases")
    parser.add_argument("--rounds", type=int, default=8, metavar="N")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args(argv)
    rows = run(QUICK if options.quick else CASES, options.rounds, options.seconds)
    Console(width=None if sys.stdout.isatty() else 100).print(table(rows))
    if options.json:
        content: list[Any] = [
            {"case": row.case._asdict(), "rounds": row.rounds, "shown_bytes": row.shown}
            for row in rows
        ]
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

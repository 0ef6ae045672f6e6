"""Benchmark of snapshots: what saving sessions that move costs a server.

    python -m benchmarks.snapshots [--sessions N] [--rate EVENTS] [--model NAME]
        [--seconds S] [--rounds N] [--store-url URL] [--json PATH]
        [-- OPTIONS OF saccade serve]

Two servers have the same load at the same time, so that a noisy machine disturbs both:
one saves no sessions (`--snapshot-s 0`), the other does, by default as `saccade serve`
does, in a SQLite file or in the Redis of `--store-url`. What is compared is the CPU
time of the two processes, all threads, while the load lasts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.comparison import end_comparison
from benchmarks.processes import thread_times_s
from saccade.checkpoints import released
from saccade.clients import http
from saccade.clients.benchmark.crew import Crew, default_processes
from saccade.clients.benchmark.machine import machine
from saccade.clients.benchmark.session import Load
from saccade.clients.commands.server_process import ServerProcess

FRAMES_PER_S: Final = 10
GRACE_S: Final = 10.0
WARM_UP_S: Final = 3.0
SAVED: Final = "saccade_snapshots_total"


class Side(NamedTuple):
    """What one server spent in one round.

    Attributes:
        cpu_s: CPU time of all its threads for a second of the load, s.
        saved_per_s: Sessions that it saved in a second.
        events_per_s: Events that it scored in a second.
    """

    cpu_s: float
    saved_per_s: float
    events_per_s: float


class Options(NamedTuple):
    """The load and the servers."""

    model: str
    sessions: int
    rate: float
    seconds: float
    rounds: int
    saving: tuple[str, ...]


def measure(options: Options) -> list[tuple[Side, Side]]:
    """Return the rounds, each without snapshots and with them."""
    frame = max(1, round(options.rate / FRAMES_PER_S))
    folder = next(path for path in released() if path.name == options.model)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(ServerProcess(["--model", str(folder), *arguments]))
            for arguments in (("--snapshot-s", "0"), options.saving)
        ]
        for server in servers:
            server.wait_until_ready(lambda _: None)
            end_comparison(server.pid)
        (served,) = http.models(servers[0].url)
        opening = {"model": served.name, "sensor": served.sensor.to_list()}
        load = Load(opening, frame, options.rate, held_back=1)
        processes = default_processes(options.sessions)
        crews = [
            stack.enter_context(Crew(one.url, load, options.sessions, processes))
            for one in servers
        ]
        one_round(servers, crews, WARM_UP_S)
        return [
            one_round(servers, crews, options.seconds) for _ in range(options.rounds)
        ]


def one_round(
    servers: Sequence[ServerProcess], crews: Sequence[Crew], seconds: float
) -> tuple[Side, Side]:
    """Load both servers at once, and return what each spent."""
    before = [(cpu_s(one), saved(one)) for one in servers]
    plans = [crew.begin(seconds, GRACE_S) for crew in crews]
    measured = [crew.finish(plan) for crew, plan in zip(crews, plans, strict=True)]
    off, on = (
        Side(
            (cpu_s(server) - spent_s) / seconds,
            (saved(server) - count) / seconds,
            part.scored_events / seconds,
        )
        for server, (spent_s, count), part in zip(
            servers, before, measured, strict=True
        )
    )
    return off, on


def cpu_s(server: ServerProcess) -> float:
    """Return the CPU time of a server's threads so far, s."""
    return sum(thread_times_s(server.pid).values())


def saved(server: ServerProcess) -> float:
    """Return how many times a server has saved a session so far."""
    text = httpx.get(f"{server.url}/metrics").raise_for_status().text
    lines = (line.split() for line in text.splitlines())
    return next(float(line[1]) for line in lines if line and line[0] == SAVED)


def table(options: Options, rounds: Sequence[tuple[Side, Side]]) -> Table:
    """Return medians of the rounds, and the rounds' ratios."""
    title = f"{options.model}: {options.sessions} at {options.rate:,.0f} events/s"
    found = Table("", "CPU s/s", "saved/s", "events/s", title=title)
    for name, sides in zip(
        ("off", " ".join(options.saving[-4:])), zip(*rounds, strict=True), strict=True
    ):
        middle = [statistics.median(column) for column in zip(*sides, strict=True)]
        found.add_row(name, f"{middle[0]:.3f}", f"{middle[1]:.1f}", f"{middle[2]:,.0f}")
    shares = [on.cpu_s / off.cpu_s for off, on in rounds]
    ratios = f"{statistics.median(shares):.3f} ({min(shares):.3f}–{max(shares):.3f})"
    found.add_row("with ÷ without", ratios, "", "")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshots")
    parser.add_argument("--sessions", type=int, default=200, metavar="N")
    parser.add_argument("--rate", type=float, default=2000.0, metavar="EVENTS")
    parser.add_argument("--model", default="motions", metavar="NAME")
    parser.add_argument("--seconds", type=float, default=12.0, metavar="S")
    parser.add_argument("--rounds", type=int, default=4, metavar="N")
    parser.add_argument("--store-url", metavar="URL", help="a Redis to save in")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rounds")
    parser.add_argument("serve", nargs="*", help="options of the server that saves")
    given = parser.parse_args(argv)
    with TemporaryDirectory() as folder:
        store = ["--store-path", f"{folder}/sessions.sqlite"]
        if given.store_url:
            store = ["--store", "redis", "--store-url", given.store_url]
        saving = (*store, *given.serve)
        options = Options(
            given.model,
            given.sessions,
            given.rate,
            given.seconds,
            given.rounds,
            saving,
        )
        rounds = measure(options)
    Console(width=None if sys.stdout.isatty() else 100).print(table(options, rounds))
    if given.json:
        content = {
            "machine": machine(),
            "options": options._asdict(),
            "rounds": [[side._asdict() for side in pair] for pair in rounds],
        }
        given.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

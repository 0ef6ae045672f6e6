"""Benchmark of the store's load: what a server asks of Redis, counted and predicted.

    python -m benchmarks.redis_operations [--sessions N] [--rate EVENTS]
        [--seconds S] [--json PATH] [-- OPTIONS OF saccade serve]

A real server, its sessions, and a real Redis of its own, which counts every command.
Beside that stands what the model of fleets (`benchmarks.scale.operations`) predicts for
so many sessions of that rate. The exit status is 1 where they differ by more than 10 %.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from redis import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.comparison import end_comparison
from benchmarks.fleet import redis
from benchmarks.scale.operations import StoreLoad, store_load
from saccade.checkpoints import released
from saccade.clients import http
from saccade.clients.benchmark.crew import Crew, default_processes
from saccade.clients.benchmark.machine import machine
from saccade.clients.benchmark.session import Load
from saccade.clients.commands.server_process import ServerProcess

MODEL: Final = "motions"
FRAMES_PER_S: Final = 2
"""Few, so that the load is the store's and not the machine's."""
GRACE_S: Final = 10.0
SETTLED_S: Final = 12.0
"""Until sessions that began together are saved at random moments: a period."""
NOT_KEPT: Final = ("--appendonly", "no", "--save", "")
TOLERANCE: Final = 0.1


class Operations(NamedTuple):
    """What Redis was asked, per second.

    Attributes:
        scripts: Scripts that it was asked to run.
        commands: All commands as it counts them, those of the scripts included.
    """

    scripts: float
    commands: float


class Counted(NamedTuple):
    """What Redis has been asked so far, and when."""

    at_s: float
    scripts: int
    commands: int

    def since(self, before: Counted) -> Operations:
        """Return the rates since an earlier count."""
        seconds = self.at_s - before.at_s
        return Operations(
            (self.scripts - before.scripts) / seconds,
            (self.commands - before.commands) / seconds,
        )


def count(client: Redis) -> Counted:
    """Ask Redis what it has been asked; its own questions are counted, too."""
    stats: dict[str, dict[str, int]] = client.info("commandstats")
    calls = {name: one["calls"] for name, one in stats.items()}
    total: int = client.info("stats")["total_commands_processed"]
    return Counted(time.monotonic(), calls.get("cmdstat_eval", 0), total)


def measure(
    sessions: int, rate: float, seconds: float, serve: Sequence[str]
) -> Operations:
    """Return what a server with so many sessions asked of its Redis."""
    folder = next(path for path in released() if path.name == MODEL)
    with TemporaryDirectory() as place, ExitStack() as stack:
        # Nothing is kept: a busy disk would hold Redis up, and so what it is asked.
        url = stack.enter_context(redis(Path(place), *NOT_KEPT))
        shared = ["--model", str(folder), "--store", "redis", "--store-url", url]
        server = stack.enter_context(ServerProcess([*shared, *serve]))
        server.wait_until_ready(lambda _: None)
        end_comparison(server.pid)
        (served,) = http.models(server.url)
        opening = {"model": served.name, "sensor": served.sensor.to_list()}
        frame = max(1, round(rate / FRAMES_PER_S))
        load = Load(opening, frame, rate, held_back=1)
        processes = default_processes(sessions)
        crew = stack.enter_context(Crew(server.url, load, sessions, processes))
        client = stack.enter_context(Redis.from_url(url))
        plan = crew.begin(SETTLED_S + seconds, GRACE_S)
        time.sleep(max(0.0, plan.start_s + SETTLED_S - time.monotonic()))
        before = count(client)
        time.sleep(max(0.0, before.at_s + seconds - 1.0 - time.monotonic()))
        found = count(client).since(before)
        crew.finish(plan)
    return found


def table(found: Operations, predicted: StoreLoad, title: str) -> Table:
    """Write what was counted beside what was predicted."""
    result = Table("a second", "counted", "predicted", "error", title=title)
    for name in Operations._fields:
        counted, expected = getattr(found, name), getattr(predicted, name)
        error = f"{expected / counted - 1:+.1%}"
        result.add_row(name, f"{counted:.1f}", f"{expected:.1f}", error)
    parts = f"{predicted.saves:.1f} saves, {predicted.checks:.1f} checks"
    result.add_row("of these", "", parts, "")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redis_operations")
    parser.add_argument("--sessions", type=int, default=200, metavar="N")
    parser.add_argument("--rate", type=float, default=500.0, metavar="EVENTS")
    parser.add_argument("--seconds", type=float, default=40.0, metavar="S")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the counts")
    parser.add_argument("serve", nargs="*", help="options of the server")
    options = parser.parse_args(argv)
    found = measure(options.sessions, options.rate, options.seconds, options.serve)
    predicted = store_load(options.sessions, options.rate)
    title = f"{options.sessions} sessions of {options.rate:,.0f} events/s"
    Console(width=None if sys.stdout.isatty() else 80).print(
        table(found, predicted, title)
    )
    if options.json:
        content = {
            "machine": machine(),
            "sessions": options.sessions,
            "rate": options.rate,
            "counted": found._asdict(),
            "predicted": {n: getattr(predicted, n) for n in Operations._fields},
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    errors = [
        getattr(predicted, name) / getattr(found, name) - 1
        for name in Operations._fields
    ]
    return int(max(map(abs, errors)) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())

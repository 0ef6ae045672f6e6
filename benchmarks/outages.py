"""Benchmark of outages: a Redis that hangs, and a server that is stopped.

    python -m benchmarks.outages [--hung-s S] [--sessions N] [--json PATH]

Two real servers share a real Redis. *Hung*: Redis is stopped and takes connections all
the same; sessions are begun one after another meanwhile, and timed until `opened`.
*Stopped*: one server is stopped by SIGSTOP while sessions send; each of its sessions is
timed until it is open at the other. Servers and SDK have their defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from redis import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.fleet import FRAME, MODEL, recordings, redis
from saccade.clients.benchmark.machine import machine
from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.connection import Stream, open_stream
from saccade.clients.reconnecting import Reconnecting
from saccade.model.events.types import Events

PAUSE_S: Final = 0.1
"""Between two frames of a session, and between two that are begun."""
LONGEST_S: Final = 60.0
HUNG_S: Final = 12.0
OPENED_S: Final = 2.0
MOVED_S: Final = 10.0


async def opened_while_hung(url: str, pid: int, hung_s: float) -> list[float]:
    """Stop Redis; return how long each session took to begin meanwhile, s."""
    times: list[float] = []
    os.kill(pid, signal.SIGSTOP)
    until_s = time.perf_counter() + hung_s
    try:
        while (began_s := time.perf_counter()) < until_s:
            stream = await open_stream(url, model=MODEL)
            times.append(time.perf_counter() - began_s)
            await stream.abort()
            await asyncio.sleep(PAUSE_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    return times


async def moved_from_stopped(
    servers: Sequence[ServerProcess], sessions: int
) -> list[float]:
    """Stop the fuller of two servers; return how long its sessions took to move, s."""
    parts, url = recordings(sessions), servers[0].url
    streams = [
        await open_stream(url, model=MODEL, reconnecting=Reconnecting()) for _ in parts
    ]
    feeding = [
        asyncio.create_task(feed(one, part))
        for one, part in zip(streams, parts, strict=True)
    ]
    await asyncio.sleep(1.0)
    held = [await asyncio.to_thread(sessions_of, one) for one in servers]
    stopped = servers[held.index(max(held))].pid
    os.kill(stopped, signal.SIGSTOP)
    try:
        times = await moves(streams, max(held))
    finally:
        os.kill(stopped, signal.SIGCONT)
        for task in feeding:
            task.cancel()
        await asyncio.gather(*feeding, return_exceptions=True)
        await asyncio.gather(*[one.abort() for one in streams])
    return times


def sessions_of(server: ServerProcess) -> int:
    """Return how many sessions a server has."""
    answer = httpx.get(f"{server.url}/v1/sessions", params={"fleet": "false"})
    return len(answer.raise_for_status().json()["sessions"])


async def feed(stream: Stream, events: Events) -> None:
    """Send a recording slowly, again and again."""
    span_us, turn = int(events["t"][-1]) + 1, 0
    while True:
        for start in range(0, len(events), FRAME):
            frame = events[start : start + FRAME].copy()
            frame["t"] += turn * span_us
            await stream.send(frame)
            await asyncio.sleep(PAUSE_S)
        turn += 1


async def moves(streams: Sequence[Stream], expected: int) -> list[float]:
    """Return how long the sessions of a stopped server took to be at the other, s."""
    times: dict[int, float] = {}
    began_s = time.perf_counter()
    while len(times) < expected:
        now_s = time.perf_counter() - began_s
        if now_s > LONGEST_S:
            left = expected - len(times)
            raise SystemExit(f"{left} sessions had not moved within {LONGEST_S:g} s")
        for number, stream in enumerate(streams):
            if stream.stats.reconnects and number not in times:
                times[number] = now_s
        await asyncio.sleep(0.01)
    return [*times.values()]


async def both_known(server: ServerProcess) -> None:
    """Wait until a server places sessions on both."""
    found: set[str | None] = set()
    while len(found) < 2:
        stream = await open_stream(server.url, model=MODEL)
        found.add(stream.opened.replica)
        await stream.abort()
        await asyncio.sleep(PAUSE_S)


def run(hung_s: float, sessions: int) -> dict[str, Any]:
    """Measure; return the report."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        url = stack.enter_context(redis(Path(folder)))
        with Redis.from_url(url) as client:
            pid: int = client.info("server")["process_id"]
        shared = ["--store", "redis", "--rebalance", "0", "--store-url", url]
        servers = [stack.enter_context(ServerProcess(shared)) for _ in range(2)]
        for one in servers:
            one.wait_until_ready(lambda _: None)
        asyncio.run(both_known(servers[0]))
        opened_s = asyncio.run(opened_while_hung(servers[0].url, pid, hung_s))
        asyncio.run(both_known(servers[0]))
        moved_s = asyncio.run(moved_from_stopped(servers, sessions))
    return {"machine": machine(), "opened_s": opened_s, "moved_s": moved_s}


def table(report: dict[str, Any]) -> Table:
    """Write the report as a table."""
    result = Table("", "sessions", "median, s", "longest, s", "bound, s")
    for title, name, bound in (
        ("opened while Redis hangs", "opened_s", OPENED_S),
        ("moved from a stopped server", "moved_s", MOVED_S),
    ):
        times = report[name]
        row = (f"{len(times)}", f"{statistics.median(times):.2f}", f"{max(times):.2f}")
        result.add_row(title, *row, f"{bound:g}")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 where a bound was passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outages")
    parser.add_argument("--hung-s", type=float, default=HUNG_S, metavar="S")
    parser.add_argument("--sessions", type=int, default=8, metavar="N")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the times")
    options = parser.parse_args(argv)
    report = run(options.hung_s, options.sessions)
    Console(width=None if sys.stdout.isatty() else 100).print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    passed = max(report["opened_s"]) > OPENED_S or max(report["moved_s"]) > MOVED_S
    return int(passed)


if __name__ == "__main__":
    sys.exit(main())

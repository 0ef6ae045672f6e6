"""Benchmark of a fleet: what a killed server costs, and what placement does.

    python -m benchmarks.fleet [--kills N] [--rounds N] [--quick] [--json PATH]

Two real servers share a real Redis. *Kills*: sessions stream a recording; one server
gets SIGKILL, and is started again for the next time; the final scores are compared with
those of sessions that nothing happened to. The time runs from when a client dials again
to its first new result. *Placed*: the same server and the same clients, in turn dialled
as they are told and by placement; the ratio is of the two slices of one round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from saccade.clients.benchmark.machine import machine
from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.connection import Stream, open_stream
from saccade.clients.reconnecting import Reconnecting, Waiting
from saccade.clients.session import Bounds
from saccade.model.events.simulator.camera import simulate
from saccade.model.events.types import Events

MODEL: Final = "motions"
FRAME: Final = 1024
PACE_EVENTS_PER_S: Final = 10_000
"""Rate of each session while servers are killed: all of them together fit."""
SENT_S: Final = 6.0
"""How long a session streams around a kill, s."""
KILL_AFTER_S: Final = 2.0
SLICE_S: Final = 3.0
PLACED_SESSIONS: Final = 4
UNDER_WAY: Final = 16 * FRAME
"""Events that a session at full speed may have under way: few, so that it ends soon."""


@dataclass
class Timed:
    """A session's stream, and when it dialled again and had a new result."""

    stream: Stream | None = None
    redialled_s: float | None = None
    events: int = 0
    recovered_s: list[float] = field(default_factory=list)

    def note_wait(self, waiting: Waiting) -> None:
        """Take the time of the first dial after a loss."""
        if waiting.attempt == 1:
            self.redialled_s = time.perf_counter() + waiting.wait_s

    async def read(self) -> None:
        """Take the time of the first new result after it."""
        assert self.stream is not None
        async for result in self.stream:
            if result.events > self.events and self.redialled_s is not None:
                self.recovered_s.append(time.perf_counter() - self.redialled_s)
                self.redialled_s = None
            self.events = max(self.events, result.events)


def recordings(count: int) -> list[Events]:
    """Return recordings that differ, of equal length."""
    wanted = int(PACE_EVENTS_PER_S * SENT_S)
    found = []
    for seed in range(count):
        scene = simulate("left", seed=seed, duration_us=500_000)
        times = -(-wanted // len(scene))
        part = np.tile(scene, times)
        span_us = int(scene["t"][-1]) + 1
        part["t"] += np.repeat(np.arange(times) * span_us, len(scene))
        found.append(part[:wanted])
    return found


async def streamed(url: str, events: Events, *, paced: bool) -> tuple[Any, Timed]:
    """Stream a recording; return its final scores and what was timed."""
    timed = Timed()
    patient = replace(Reconnecting(), on_wait=timed.note_wait)
    timed.stream = await open_stream(url, model=MODEL, reconnecting=patient)
    reading = asyncio.create_task(timed.read())
    began_s = time.perf_counter()
    for start in range(0, len(events), FRAME):
        await timed.stream.send(events[start : start + FRAME])
        due_s = began_s + start / PACE_EVENTS_PER_S
        if paced and (wait_s := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
    closed = await timed.stream.close()
    await reading
    return closed.logits, timed


async def all_streamed(
    url: str, parts: Sequence[Events], *, paced: bool = True
) -> list[tuple[Any, Timed]]:
    """Stream all recordings at once."""
    return await asyncio.gather(*[streamed(url, one, paced=paced) for one in parts])


async def killed(
    servers: list[ServerProcess],
    parts: Sequence[Events],
    expected: list[Any],
    turn: int,
) -> dict[str, Any]:
    """Kill one server while all stream; return how it went."""
    victim, other = servers[turn % 2], servers[(turn + 1) % 2]
    streaming = asyncio.create_task(all_streamed(other.url, parts))
    await asyncio.sleep(KILL_AFTER_S)
    victim.kill()
    found = await streaming
    await asyncio.to_thread(victim.restart)
    await asyncio.to_thread(victim.wait_until_ready, lambda _: None)
    recovered = [s for _, timed in found for s in timed.recovered_s]
    equal = sum(one == wanted for (one, _), wanted in zip(found, expected, strict=True))
    return {"sessions": len(found), "equal": equal, "recovered_s": recovered}


async def kills(servers: list[ServerProcess], count: int, sessions: int) -> list[Any]:
    """Kill one of two servers again and again."""
    parts = recordings(sessions)
    expected = [
        one for one, _ in await all_streamed(servers[0].url, parts, paced=False)
    ]
    return [await killed(servers, parts, expected, turn) for turn in range(count)]


async def slice_of(
    url: str, parts: Sequence[Events], rate: float
) -> tuple[float, float]:
    """Send for a slice; return events/s, and the median latency of a result, ms.

    Args:
        url: The server to ask.
        parts: A recording a session, repeated.
        rate: Events a second of each session; infinity is full speed.
    """
    bounds = Bounds(events_under_way=UNDER_WAY)
    streams = [await open_stream(url, model=MODEL, bounds=bounds) for _ in parts]
    began_s = time.perf_counter()

    async def send(stream: Stream, events: Events) -> None:
        sent, span_us = 0, int(events["t"][-1]) + 1
        while (now_s := time.perf_counter() - began_s) < SLICE_S:
            if sent > now_s * rate:
                await asyncio.sleep(sent / rate - now_s)
            turn, start = divmod(sent, len(events))
            frame = events[start : start + FRAME].copy()
            frame["t"] += turn * span_us
            await stream.send(frame)
            sent += len(frame)

    await asyncio.gather(*map(send, streams, parts))
    closed = await asyncio.gather(*[one.close() for one in streams])
    elapsed_s = time.perf_counter() - began_s
    latencies = [ms for one in streams for ms in one.stats.latencies_ms]
    events = sum(one.events for one in closed)
    return events / elapsed_s, statistics.median(latencies)


async def placed_by_plain(
    plain: str, fleet: str, rounds: int, sessions: int
) -> list[dict[str, float]]:
    """Compare a server alone with one of a fleet, in turn first."""
    parts, found = recordings(sessions), []
    for turn in range(rounds):
        order = [("plain", plain), ("placed", fleet)][:: 1 if turn % 2 else -1]
        fast = {name: await slice_of(url, parts, math.inf) for name, url in order}
        pace = PACE_EVENTS_PER_S
        paced = {name: await slice_of(url, parts, pace) for name, url in order}
        found.append(
            {
                "throughput": fast["placed"][0] / fast["plain"][0],
                "p50_ms": paced["placed"][1],
                "plain_p50_ms": paced["plain"][1],
            }
        )
    return found


@contextmanager
def redis(folder: Path, *options: str) -> Iterator[str]:
    """Run a `redis-server` on a free port; yield its address."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("benchmarks.fleet needs redis-server (Debian: redis-server)")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        program,
        "--port",
        f"{port}",
        "--dir",
        str(folder),
        "--appendonly",
        "yes",
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            time.sleep(0.5)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def table(report: dict[str, Any]) -> Table:
    """Write the report as a table."""
    result = Table(title=f"a fleet of two, {report['machine']['processor']}")
    result.add_column("")
    result.add_column("", justify="right")
    times = sorted(s for one in report["kills"] for s in one["recovered_s"])
    equal = sum(one["equal"] for one in report["kills"])
    result.add_row("sessions bit-equal after kills", f"{equal} of {report['streamed']}")
    if times:
        p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
        result.add_row(
            "redial to first new result, p50", f"{times[len(times) // 2]:.2f} s"
        )
        result.add_row("p99", f"{p99:.2f} s")
    for name in ("throughput", "p50_ms", "plain_p50_ms"):
        if report["placed"]:
            median = statistics.median(one[name] for one in report["placed"])
            result.add_row(f"placed: {name}", f"{median:.3f}")
    return result


def run(kill_count: int, rounds: int, sessions: int) -> dict[str, Any]:
    """Measure; return the report."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        url = stack.enter_context(redis(Path(folder)))
        shared = ["--store", "redis", "--rebalance", "0", "--store-url", url]
        servers = [stack.enter_context(ServerProcess(shared)) for _ in range(2)]
        # One that listens on every address and advertises none has no fleet.
        alone = ["--store", "redis", "--store-url", url, "--host", "0.0.0.0"]
        plain = stack.enter_context(ServerProcess([*alone, "--insecure"]))
        for one in (*servers, plain):
            one.wait_until_ready(lambda _: None)
        killing = asyncio.run(kills(servers, kill_count, sessions))
        servers[1].stop()
        compared = placed_by_plain(plain.url, servers[0].url, rounds, PLACED_SESSIONS)
        placed = asyncio.run(compared)
    streamed = sum(one["sessions"] for one in killing)
    return {
        "machine": machine(), "kills": killing, "streamed": streamed, "placed": placed
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet")
    parser.add_argument("--kills", type=int, default=10, metavar="N")
    parser.add_argument("--rounds", type=int, default=8, metavar="N", help="of slices")
    parser.add_argument("--sessions", type=int, default=20, metavar="N")
    parser.add_argument("--quick", action="store_true", help="one kill, two rounds")
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="write the report here"
    )
    options = parser.parse_args(argv)
    kill_count, rounds = (1, 2) if options.quick else (options.kills, options.rounds)
    report = run(kill_count, rounds, options.sessions)
    Console(width=None if sys.stdout.isatty() else 100).print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

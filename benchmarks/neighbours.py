"""Benchmark of isolation: well-behaved clients' latency beside abusive clients.

    python -m benchmarks.neighbours [--minutes 10] [--key-events-per-s N] [--json PATH]

A server has two keys and a limit for each. One key has 50 sessions that each send a
tick's events five times a second, half of the limit. These sessions are alone for a
quarter of the time, and for the rest beside `benchmarks.nuisances`, which use the other
key. The two phases alternate three times, so that a noisy machine disturbs both alike.
Latency is from sending a tick's last event to the receipt of its scores. The server's
memory is read every second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.comparison import end_comparison
from benchmarks.nuisances import some_events
from saccade.clients import http
from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.connection import Stream, connect
from saccade.clients.endpoint import KEY_VARIABLE
from saccade.server.transport.auth import digest_of, new_key

MODEL: Final = "nmnist"
SESSIONS: Final = 50
KEY_EVENTS_PER_S: Final = 32_000.0
ROUNDS: Final = 3
VANISHINGS: Final = 1000
QUIET_SHARE: Final = 0.25
EVERY_S: Final = 0.2
SETTLE_S: Final = 30.0
ALONE, BESIDE = "alone", "beside the others"


class Neighbours:
    """The well-behaved sessions and their measured latencies.

    Attributes:
        phase: The phase of the latencies from now on.
        latencies_ms: Latencies of results by phase.
    """

    def __init__(self, url: str, sessions: int) -> None:
        self._url = url
        self._sessions = sessions
        self.phase = ALONE
        self.latencies_ms: dict[str, list[float]] = {ALONE: [], BESIDE: []}
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Stream until `stop` is called; raise the error of any session."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._sessions):
                group.create_task(self._session(number))

    def stop(self) -> None:
        """Make every session close."""
        self._stopped.set()

    async def _session(self, number: int) -> None:
        await asyncio.sleep(EVERY_S * number / self._sessions)
        async with connect(self._url, model=MODEL) as stream:
            receiving = asyncio.create_task(self._receive(stream))
            tick, sent = stream.opened.tick_events, 0
            while not self._stopped.is_set():
                await stream.send(some_events(tick, sent, number))
                sent += tick
                await asyncio.sleep(EVERY_S)
            closed = await stream.close()
            await receiving
            assert closed.events + closed.pending == sent

    async def _receive(self, stream: Stream) -> None:
        taken = stream.stats.latencies_ms
        async for _ in stream:
            while taken:
                self.latencies_ms[self.phase].append(taken.popleft())


async def measure(
    server: ServerProcess, sessions: int, seconds: float, other_key: str
) -> dict[str, Any]:
    """Run the benchmark and return its result as JSON values.

    Args:
        server: The server; the key in this process's environment is one of its keys.
        sessions: Number of well-behaved sessions.
        seconds: Duration of all phases.
        other_key: The key of the abusive clients.
    """
    neighbours = Neighbours(server.url, sessions)
    streaming = asyncio.create_task(neighbours.run())
    memory: list[float] = []
    watching = asyncio.create_task(_watch(server.pid, memory))
    nuisances = []
    for _ in range(ROUNDS):
        neighbours.phase = ALONE
        await _pause(streaming, QUIET_SHARE * seconds / ROUNDS)
        neighbours.phase = BESIDE
        loud_s = (1 - QUIET_SHARE) * seconds / ROUNDS
        nuisances.append(await _disturb(server.url, loud_s, other_key))
    neighbours.stop()
    await streaming
    slots = await _slots_left(server.url)
    watching.cancel()
    alone, beside = (_percentiles(neighbours.latencies_ms[p]) for p in (ALONE, BESIDE))
    return {
        "seconds": seconds,
        "sessions": sessions,
        ALONE: alone,
        BESIDE: beside,
        "p99 ratio": beside["p99_ms"] / alone["p99_ms"],
        "slots left": slots,
        "nuisances": nuisances,
        "rss_mib": memory,
    }


async def _pause(streaming: asyncio.Task[None], seconds: float) -> None:
    """Wait for `seconds`; raise the error of a session that failed meanwhile."""
    await asyncio.wait({streaming}, timeout=seconds)
    if streaming.done():
        await streaming


async def _disturb(url: str, seconds: float, key: str) -> dict[str, int]:
    arguments = [url, MODEL, f"{seconds}", f"{-(-VANISHINGS // ROUNDS)}"]
    command = [sys.executable, "-m", "benchmarks.nuisances", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, KEY_VARIABLE: key},
    )
    output, _ = await process.communicate()
    counts: dict[str, int] = json.loads(output)
    return counts


async def _watch(pid: int, memory: list[float]) -> None:
    while True:
        memory.append(resident_mib(pid))
        await asyncio.sleep(1.0)


def resident_mib(pid: int) -> float:
    """Return a process's resident memory (Linux's VmRSS), MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


async def _slots_left(url: str) -> int:
    """Return the slots in use after at most SETTLE_S for all to be freed."""
    for _ in range(int(SETTLE_S)):
        if (used := slots_used(url)) == 0:
            break
        await asyncio.sleep(1.0)
    return used


def slots_used(url: str) -> int:
    """Return the number of a server's slots in use."""
    samples = http.metrics(url)
    return int(sum(s.value for s in samples if s.name == "saccade_slots_used"))


def _percentiles(latencies_ms: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return {"results": len(latencies_ms), "p50_ms": float(p50), "p99_ms": float(p99)}


def tables(found: Any) -> Iterator[Table]:
    """Yield the result as tables."""
    latency = Table(title=f"{found['sessions']} sessions, {found['seconds']:.0f} s")
    for heading in ("", "results", "p50 ms", "p99 ms"):
        latency.add_column(heading, justify="right")
    for phase in (ALONE, BESIDE):
        row = found[phase]
        latency.add_row(
            phase, f"{row['results']}", f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}"
        )
    latency.add_row("ratio", "", "", f"{found['p99 ratio']:.2f}×")
    yield latency
    memory = Table(title=f"memory; {found['slots left']} slots left at the end")
    memory.add_column("share of the time")
    memory.add_column("MiB", justify="right")
    for tenth, part in enumerate(np.array_split(found["rss_mib"], 10)):
        memory.add_row(
            f"{tenth / 10:.0%} to {(tenth + 1) / 10:.0%}", f"{part.max():.0f}"
        )
    yield memory


@contextmanager
def guarded(key_events_per_s: float, *keys: str) -> Iterator[ServerProcess]:
    """Start a server that requires one of these keys."""
    lines = [f"holder-{n}:{digest_of(key)}\n" for n, key in enumerate(keys)]
    with tempfile.NamedTemporaryFile("w") as file:
        file.writelines(lines)
        file.flush()
        limit = ("--key-events-per-s", f"{key_events_per_s}")
        with ServerProcess(["--keys-file", file.name, *limit]) as server:
            server.wait_until_ready(lambda text: None)
            end_comparison(server.pid)
            yield server


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--key-events-per-s", type=float, default=KEY_EVENTS_PER_S)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write it all here")
    options = parser.parse_args(argv)
    key, other_key = new_key(), new_key()
    os.environ[KEY_VARIABLE] = key
    limit = options.key_events_per_s
    with guarded(limit, key, other_key) as server:
        seconds = 60 * options.minutes
        found = asyncio.run(measure(server, options.sessions, seconds, other_key))
    found["key_events_per_s"] = limit
    for table in tables(found):
        Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Benchmark of pings: whether a busy server stays in touch with ordinary websockets.

    python -m benchmarks.pings [--sessions N] [--seconds S] [--workers N] [--json PATH]

A real server, and one client process whose sessions send at full speed within their
credit, every tick reported, through the `websockets` library as it is: it pings each
20 s, and closes where no pong has come 20 s later. A session of this process sends
nothing but pings, and times their pongs. The exit status is 1 where any was closed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.comparison import end_comparison
from saccade.checkpoints import released
from saccade.clients.benchmark.machine import machine
from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.endpoint import stream_url
from saccade.model.events.encodings.packed import pack
from saccade.model.events.simulator.camera import simulate
from saccade.server.protocol.codec import encode_client
from saccade.server.protocol.messages import EventsFrame, Open

MODEL: Final = "motions"
FRAME_EVENTS: Final = 4096
SCENE_US: Final = 400_000
FRAME_BYTES: Final = 1 << 16
"""More than a frame of packed events takes with its message."""
PING_S: Final = 0.1
"""Time between two pings of the session that sends nothing else."""


@dataclass
class Crowd:
    """What the sessions of one client process sent, and how many of them were closed.

    Attributes:
        events: Events acknowledged.
        seconds: How long they were sent.
        closes: What was said of each session that ended before its time.
    """

    events: int
    seconds: float
    closes: list[str]


@dataclass
class Pongs:
    """How long pongs took, s, and what ended their session before its time."""

    took_s: list[float]
    closes: list[str]


class Sender:
    """One session that sends at full speed within its credit.

    Attributes:
        acked: Events that the server has acknowledged.
    """

    def __init__(self) -> None:
        self.acked = 0
        self._window = 0
        self._over = False
        self._heard = asyncio.Event()

    async def run(self, url: str, until_s: float) -> str:
        """Send until a time; return why the session ended before it, or nothing."""
        try:
            async with connect(stream_url(url)) as socket:
                await socket.send(encode_client(Open(MODEL)))
                reading = asyncio.create_task(self._read(socket))
                await self._send(socket, until_s)
                early = time.monotonic() < until_s
                await socket.close()
                await asyncio.gather(reading, return_exceptions=True)
        except (ConnectionClosed, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return f"{socket.close_code}: {socket.close_reason}" if early else ""

    async def _send(self, socket: ClientConnection, until_s: float) -> None:
        sent = 0
        for message in frames():
            while sent - self.acked + FRAME_EVENTS > self._window and not self._over:
                self._heard.clear()
                await self._heard.wait()
            if self._over or time.monotonic() > until_s:
                return
            await socket.send(message)
            sent += FRAME_EVENTS

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for data in socket:
                assert isinstance(data, bytes)
                self._hear(msgpack.unpackb(data))
        finally:
            self._over = True
            self._heard.set()

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "opened":
            by_size = message["window_bytes"] // FRAME_BYTES * FRAME_EVENTS
            self._window = min(message["window_events"], by_size)
        elif message["type"] == "ack":
            self.acked = message["events"]
        self._heard.set()


def frames() -> Iterator[bytes]:
    """Yield the messages of one scene, again and again, as time goes on."""
    scene = simulate("left", seed=0, duration_us=SCENE_US)
    usable = len(scene) // FRAME_EVENTS * FRAME_EVENTS
    parts = np.split(scene[:usable], usable // FRAME_EVENTS)
    packed = [pack(part, int(part["t"][0])) for part in parts]
    for seq in itertools.count(1):
        turn, k = divmod(seq - 1, len(parts))
        base_us = turn * SCENE_US + int(parts[k]["t"][0])
        message = encode_client(EventsFrame(seq, packed[k], t_base_us=base_us))
        assert isinstance(message, bytes)
        assert len(message) <= FRAME_BYTES
        yield message


async def _crowd(url: str, sessions: int, seconds: float) -> Crowd:
    began_s = time.monotonic()
    senders = [Sender() for _ in range(sessions)]
    ends = (sender.run(url, began_s + seconds) for sender in senders)
    closes = [end for end in await asyncio.gather(*ends) if end]
    took_s = time.monotonic() - began_s
    return Crowd(sum(sender.acked for sender in senders), took_s, closes)


def crowd(url: str, sessions: int, seconds: float) -> Crowd:
    """Send at full speed in so many sessions of this process."""
    return asyncio.run(_crowd(url, sessions, seconds))


async def ping(url: str, seconds: float) -> Pongs:
    """Ping the server from a session that sends no events."""
    pongs, until_s = Pongs([], []), time.monotonic() + seconds
    try:
        async with connect(stream_url(url)) as socket:
            await socket.send(encode_client(Open(MODEL)))
            await socket.recv()
            while time.monotonic() < until_s:
                pong = await socket.ping()
                pongs.took_s.append(await pong)
                await asyncio.sleep(PING_S)
    except (ConnectionClosed, OSError) as error:
        pongs.closes.append(f"{type(error).__name__}: {error}")
    return pongs


def run(sessions: int, seconds: float, workers: int) -> tuple[Crowd, Pongs]:
    """Run server, crowd and pings."""
    folder = next(path for path in released() if path.name == MODEL)
    options = ["--model", str(folder), "--workers", f"{workers}"]
    spawn = multiprocessing.get_context("spawn")
    with ServerProcess(options) as server, ProcessPoolExecutor(1, spawn) as other:
        server.wait_until_ready(lambda _: None)
        end_comparison(server.pid)
        sending = other.submit(crowd, server.url, sessions, seconds)
        pongs = asyncio.run(ping(server.url, seconds))
        return sending.result(), pongs


def table(sent: Crowd, pongs: Pongs) -> Table:
    """Write what was found as a table."""
    result = Table(title=f"{MODEL}, {sent.seconds:.0f} s at full speed")
    for name in ("events/s", "closed", "pong p50", "p99", "longest"):
        result.add_column(name, justify="right")
    p50, p99, longest = 1000 * np.quantile(pongs.took_s or [np.nan], [0.5, 0.99, 1])
    result.add_row(
        f"{sent.events / sent.seconds:,.0f}",
        f"{len(sent.closes) + len(pongs.closes)}",
        *(f"{value:,.1f} ms" for value in (p50, p99, longest)),
    )
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 where a session was closed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pings")
    parser.add_argument("--sessions", type=int, default=64, metavar="N")
    parser.add_argument("--seconds", type=float, default=120.0, metavar="S")
    parser.add_argument("--workers", type=int, default=0, metavar="N")
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="write what was found"
    )
    options = parser.parse_args(argv)
    sent, pongs = run(options.sessions, options.seconds, options.workers)
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table(sent, pongs))
    closes = [*sent.closes, *pongs.closes]
    for close in closes:
        console.print(close)
    if options.json:
        found = {"crowd": asdict(sent), "pongs": asdict(pongs)}
        content = json.dumps({"machine": machine(), **found}, indent=1)
        options.json.write_text(content + "\n")
    return int(bool(closes))


if __name__ == "__main__":
    sys.exit(main())

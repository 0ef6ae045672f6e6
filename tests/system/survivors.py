"""Several clients at full speed, whose server does not live long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.connection import connect
from saccade.clients.reconnecting import Reconnecting
from saccade.model.events.types import Events
from saccade.server.protocol.messages import Closed
from tests.system.offline import CHECKPOINTS, filmed

FRAME = 256
PAUSE_S = 0.002
BRISK = Reconnecting(first_s=0.02, most_s=0.3, give_up_s=100.0)
TOLERANCE = 1e-5


@contextmanager
def mortal(folder: Path, *arguments: str) -> Iterator[ServerProcess]:
    """Start a server that keeps its sessions in a file, and may be started again."""
    process = ServerProcess(
        [
            *("--store", "sqlite", "--store-path", str(folder / "sessions.sqlite")),
            *("--model", str(CHECKPOINTS / "nmnist"), "--buckets", "1x1,4x4"),
            *("--snapshot-s", "0.05", "--drain-s", "0.3", *arguments),
        ]
    )
    with process:
        process.wait_until_ready(lambda text: None)
        yield process


def recordings(count: int, events: int) -> list[Events]:
    """Return recordings that differ, each of so many events."""
    scene = filmed("nmnist", ms=400)
    parts = []
    for number in range(count):
        repeats = -(-events // len(scene))
        part = np.tile(scene, repeats)
        span_us = int(scene["t"][-1]) + 1
        part["t"] += np.repeat(np.arange(repeats) * span_us, len(scene))
        part["x"] = (part["x"] + 3 * number) % 34
        parts.append(part[:events])
    return parts


async def streamed(url: str, events: Events) -> Closed:
    """Send a recording in small frames; return its final scores."""
    async with connect(url, model="nmnist", reconnecting=BRISK) as stream:
        for start in range(0, len(events), FRAME):
            await stream.send(events[start : start + FRAME])
        return await stream.close()


async def streamed_through(url: str, events: Events, over: asyncio.Event) -> Closed:
    """Send a recording in small frames, the last of them once the strikes are over."""
    async with connect(url, model="nmnist", reconnecting=BRISK) as stream:
        for start in range(0, len(events) - FRAME, FRAME):
            await stream.send(events[start : start + FRAME])
            await asyncio.sleep(PAUSE_S)
        await over.wait()
        await stream.send(events[start + FRAME :])
        return await stream.close()


async def outlive(
    url: str, parts: list[Events], strike: Callable[[], Awaitable[None]]
) -> list[Closed]:
    """Stream every recording at once while the server is struck."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(streamed_through(url, p, over)) for p in parts]
        await strike()
        over.set()
    return [stream.result() for stream in streams]


def assert_same(found: list[Closed], expected: list[Closed]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.seq, one.events, one.pending) == (
            other.seq,
            other.events,
            other.pending,
        )
        scale = max(map(abs, other.logits or [1.0]))
        error = np.abs(np.subtract(one.logits, other.logits)).max() / scale
        assert error <= TOLERANCE

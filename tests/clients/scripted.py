"""A scripted server on a real websocket, events to send to it, and a fake clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from saccade.clients.pacing import Clock
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server.protocol.codec import decode_client, encode_server
from saccade.server.protocol.messages import (
    Close,
    Closed,
    Open,
    Opened,
    Result,
    ServerMessage,
)

FINAL = Closed(1, 1, 4, 0, 4000, [2.0, 0.0], "left", 0.88)

M = TypeVar("M")


class Peer:
    """The server's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def expect(self, kind: type[M]) -> M:
        message = decode_client(await self.socket.recv())
        assert isinstance(message, kind), message
        return message

    async def send(self, message: ServerMessage) -> None:
        await self.socket.send(encode_server(message, text=False))

    async def open(self, **facts: Any) -> Open:
        opening = await self.expect(Open)
        await self.send(opened(**facts))
        return opening

    async def finish(self, final: Closed = FINAL) -> None:
        await self.expect(Close)
        await self.send(final)
        await self.socket.close()


Script = Callable[[Peer], Awaitable[None]]
Handshake = Callable[[ServerConnection], Response | None]
"""Answers the request for a websocket; None accepts it."""


def opened(**changes: Any) -> Opened:
    facts: dict[str, Any] = {
        "session": "s1",
        "model": "toy",
        "model_hash": "0" * 64,
        "labels": ["left", "right"],
        "sensor": Sensor(128, 128),
        "tick_events": 4,
        "window_events": 1024,
        "window_bytes": 8192,
        "max_frame_bytes": 65536,
    }
    return Opened(**{**facts, **changes})


def result(events: int, *, label: str = "left", seq: int = 1) -> Result:
    logits = [2.0, 0.0] if label == "left" else [0.0, 2.0]
    return Result(seq, events // 4, events, 1000 * events, logits, label, 0.88)


def moving(count: int, start_us: int = 0, step_us: int = 10) -> Events:
    """Return `count` events, one each `step_us`."""
    events = np.zeros(count, EVENT_DTYPE)
    events["t"] = start_us + step_us * np.arange(count)
    events["x"] = np.arange(count) % 128
    events["p"] = np.arange(count) % 2
    return events


@asynccontextmanager
async def scripted(
    *scripts: Script, handshakes: Sequence[Handshake] = (), port: int = 0
) -> AsyncIterator[str]:
    """Serve one script to each connection, and the last to all further ones.

    Args:
        scripts: What to do with the connections that were accepted, in their order.
        handshakes: How to answer the first requests; all further are accepted.
        port: Where to listen; 0: at any free port.

    Yields:
        The server's address.
    """
    left, answers = list(scripts), iter(handshakes)

    def answer(socket: ServerConnection, request: Request) -> Response | None:
        handshake = next(answers, None)
        return handshake(socket) if handshake else None

    async def handle(socket: ServerConnection) -> None:
        script = left.pop(0) if len(left) > 1 else left[0]
        await script(Peer(socket))

    async with serve(
        handle, "127.0.0.1", port, compression=None, process_request=answer
    ) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


class FakeTime:
    """A clock that moves only while something sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.now_s, self.sleep)

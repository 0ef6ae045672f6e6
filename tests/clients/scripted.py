"""A scripted server on a real websocket, and events to send to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from websockets.asyncio.server import ServerConnection, serve

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server.protocol.codec import decode_client, encode_server
from saccade.server.protocol.messages import Open, Opened, Result, ServerMessage

M = TypeVar("M")


class Peer:
    """The server's end of one connection, for a test to speak through."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def expect(self, kind: type[M]) -> M:
        message = decode_client(await self.socket.recv())
        assert isinstance(message, kind), message
        return message

    async def say(self, message: ServerMessage) -> None:
        await self.socket.send(encode_server(message, text=False))

    async def open(self, **limits: int) -> Open:
        opening = await self.expect(Open)
        await self.say(opened(**limits))
        return opening


Script = Callable[[Peer], Awaitable[None]]


def opened(**limits: int) -> Opened:
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
    return Opened(**{**facts, **limits})


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
async def scripted(script: Script) -> AsyncIterator[str]:
    """Serve one script to every connection; yield the server's address."""

    async def handle(socket: ServerConnection) -> None:
        await script(Peer(socket))

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}"

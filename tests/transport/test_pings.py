"""Many congested sessions in one client process, with an ordinary library's pings."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from saccade.model.events.encodings.packed import pack
from saccade.server.protocol.codec import decode_server, encode_client
from saccade.server.protocol.messages import Ack, Close, Closed, EventsFrame, Open
from tests.toy import some_events

FRAME = 4096
DATA = pack(some_events(FRAME), 0)


class Flood:
    """One session at full speed, within its window."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.sent = self.acked = 0
        self.closed: Closed | None = None

    async def play(self, seconds: float) -> None:
        await self._socket.send(encode_client(Open("toy")))
        window = decode_server(await self._socket.recv()).window_events
        hearing = asyncio.create_task(self._hear())
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if self.sent + FRAME - self.acked > window:
                await asyncio.sleep(0.01)
                continue
            seq, base = self.sent // FRAME + 1, 10 * self.sent
            self.sent += FRAME
            await self._socket.send(
                encode_client(EventsFrame(seq, DATA, t_base_us=base))
            )
        await self._socket.send(encode_client(Close()))
        await hearing

    async def _hear(self) -> None:
        async for data in self._socket:
            if b"ack" in data[:16]:
                message = decode_server(data)
                assert isinstance(message, Ack)
                self.acked = message.events
            elif b"closed" in data[:16]:
                self.closed = decode_server(data)


@pytest.mark.slow
async def test_no_session_of_a_crowd_at_full_speed_misses_a_pong(serve: Any) -> None:
    server, sessions = serve(slots=16), 32
    url = server.base.replace("http", "ws") + "/v1/stream"
    pings = {"ping_interval": 2.0, "ping_timeout": 10.0}

    async def play() -> Flood:
        async with connect(url, compression=None, **pings) as socket:
            flood = Flood(socket)
            await flood.play(20.0)
            return flood

    for flood in await asyncio.gather(*(play() for _ in range(sessions))):
        assert flood.closed is not None
        assert flood.closed.events + flood.closed.pending == flood.sent

"""A session's socket, and the one task that reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from clients.errors import ConnectionLost
from clients.session import Session
from server.protocol.codec import decode_server, encode_client
from server.protocol.errors import ProtocolError
from server.protocol.messages import ClientMessage


class Wire:
    """Carry messages between a socket and a session.

    Whoever waits for something waits with `until`: it looks again after
    every message that comes in.
    """

    def __init__(self, socket: ClientConnection, session: Session) -> None:
        self._socket = socket
        self._session = session
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def transmit(self, message: ClientMessage) -> None:
        """Send a message; on a dead connection, return once it is known why."""
        try:
            await self._socket.send(encode_client(message))
        except ConnectionClosed:
            await asyncio.shield(self._reader)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the session holds, or the session is over."""
        while not condition() and not self._session.over:
            await self._news.wait()

    async def until_over(self, silence_s: float) -> None:
        """Wait until the session is over.

        Raises:
            TimeoutError: The server said nothing for `silence_s`.
        """
        while not self._session.over:
            async with asyncio.timeout(silence_s):
                await self._news.wait()

    async def hang_up(self) -> None:
        """Close the socket, and wait for the reader's end."""
        await self._socket.close()
        await self._reader

    async def _read(self) -> None:
        session, socket = self._session, self._socket
        try:
            async for data in socket:
                session.receive(decode_server(data), time.monotonic())
                self._tell()
        except ConnectionClosed:
            pass
        except ProtocolError as error:
            session.fail(ConnectionLost(None, f"the server sent no message: {error}"))
        session.fail(ConnectionLost(socket.close_code, socket.close_reason or ""))
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

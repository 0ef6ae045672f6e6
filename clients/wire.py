"""A session's socket, and the one task that reads it and dials again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from saccade.clients.errors import (
    ClientError,
    ConnectionLost,
    RequestRefused,
    StreamError,
)
from saccade.clients.reconnecting import Reconnecting
from saccade.clients.session import Session
from saccade.server.protocol.codec import decode_server, encode_client
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import Opened

Dial: TypeAlias = Callable[[], Awaitable[tuple[ClientConnection, Opened]]]
TEMPORARY: Final = frozenset(
    {"not_ready", "slots_exhausted", "too_many_sessions", "rate_exceeded"}
)
"""Refusals of a server that starts, or is full, or had enough, for the moment."""


class Wire:
    """Carry messages between a socket and a session.

    Whoever waits for something waits with `until`: it looks again after
    every message that comes in. A connection that is lost is made again, and
    what the server does not know is sent again, while everybody waits. One that the
    server closed since nothing was said is made again once there is something to say.

    Args:
        socket: The connection that the session was opened on.
        session: What is said on it.
        dial: How to come back.
        reconnecting: How often to try.
    """

    def __init__(
        self,
        socket: ClientConnection,
        session: Session,
        dial: Dial,
        reconnecting: Reconnecting,
    ) -> None:
        self._socket = socket
        self._session = session
        self._dial = dial
        self._reconnecting = reconnecting
        self._up = True
        self._left = False
        self._news = asyncio.Event()
        self._sending = asyncio.Lock()
        self._reader = asyncio.create_task(self._read())
        self._pumping: asyncio.Task[None] | None = None

    async def pump(self) -> None:
        """Send what the session has to say; while the connection is down, later."""
        if self._session.put_away:
            self._tell()
        async with self._sending:
            while self._up and (message := self._session.outgoing.next()) is not None:
                try:
                    await self._socket.send(encode_client(message))
                except ConnectionClosed:
                    break  # the reader knows why, and sends it again or gives up
        if self._session.opened.resume is None and self._socket.close_code is not None:
            await asyncio.shield(self._reader)

    async def push(self) -> None:
        """Send what the session has to say; a live one waits for nobody."""
        if not self._session.live:
            await self.pump()
            return
        if self._pumping is None or self._pumping.done():
            self._pumping = asyncio.create_task(self.pump())
        await asyncio.sleep(0)  # a turn for it

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the session holds, or the session is over."""
        while not condition() and not self._session.over:
            await self._news.wait()

    async def until_over(self, silence_s: float) -> None:
        """Wait until the session is over.

        Raises:
            TimeoutError: The server, though connected, said nothing for `silence_s`.
        """
        while not self._session.over:
            async with asyncio.timeout(silence_s if self._up else None):
                await self._news.wait()

    async def hang_up(self) -> None:
        """Close the socket for good, and wait for the reader's end."""
        self._left = True
        await self._socket.close()
        if not self._up:
            self._reader.cancel()
        tasks = [task for task in (self._reader, self._pumping) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._session.fail(ConnectionLost(1000, "hung up"))
        self._tell()

    async def _read(self) -> None:
        session = self._session
        while not session.over:
            await self._hear()
            if not session.over:
                self._up = False
                self._tell()
                await self._come_back()
            self._tell()

    async def _hear(self) -> None:
        """Take in messages until the connection ends."""
        try:
            async for data in self._socket:
                self._session.receive(decode_server(data), time.monotonic())
                self._tell()
        except ConnectionClosed:
            pass
        except ProtocolError as error:
            reason = f"the server sent no message: {error}"
            self._session.fail(ConnectionLost(None, reason))

    async def _come_back(self) -> None:
        """Dial until the session goes on, or it is over."""
        session, socket = self._session, self._socket
        lost = ConnectionLost(socket.close_code, socket.close_reason or "")
        if self._left or session.opened.resume is None:
            session.fail(lost)
            return
        while session.resting:
            await self._news.wait()
        give_up_s = time.monotonic() + self._reconnecting.give_up_s
        asked_s = 1e-3 * session.leaving.reconnect_after_ms if session.leaving else 0.0
        for wait_s in self._reconnecting.waits_s(asked_s):
            if time.monotonic() + wait_s > give_up_s:
                session.fail(lost)
                return
            await asyncio.sleep(wait_s)
            failure = await self._try()
            if failure is None:
                return
            if not _may_pass(failure):
                session.fail(failure)
                return

    async def _try(self) -> ClientError | None:
        """Dial once; return what went wrong."""
        try:
            self._socket, opened = await self._dial()
        except ClientError as error:
            return error
        self._session.resumed(opened)
        self._up = True
        # Not awaited: who sends must be read from, or both sides wait in the end.
        self._pumping = asyncio.create_task(self.pump())
        return None

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _may_pass(failure: ClientError) -> bool:
    """Tell whether another attempt may do better."""
    if isinstance(failure, StreamError):
        return failure.code in TEMPORARY
    return not isinstance(failure, RequestRefused)

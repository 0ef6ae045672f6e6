"""A websocket as ASGI gives it, without a framework's wrapper around each message.

A framework checks and converts every message once more, which at thousands of results
a second costs more than the results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from saccade.server.protocol.codec import Wire
from saccade.server.transport.coalescing import SEND_ALL, SEND_NOW
from saccade.server.transport.inbox import DISCONNECT, GIVEN_TURNS, LISTEN, Hear

UNKNOWN_CODE: Final = 1005
"""Stands for the code of an end that has none."""


class Socket:
    """One client's websocket.

    Args:
        scope: The connection's ASGI scope, of type `websocket`.
        receive: ASGI's callable of the next message from the client.
        send: ASGI's callable that sends one.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        state = scope.get("state", {})
        send_all: Callable[[Iterable[Wire]], Awaitable[None]] | None
        send_all = state.get(SEND_ALL)
        self._send_all = send_all or self._send_each  # under another server
        send_now: Callable[[Callable[[], Iterable[Wire]]], bool] | None
        send_now = state.get(SEND_NOW)
        self._send_now = send_now or _send_none
        listen: Callable[[Hear], Awaitable[Message]] | None
        listen = state.get(LISTEN)
        self._listen = listen or self._receive_each

    async def accept(self) -> None:
        """Complete the handshake."""
        await self._receive()  # the client's `connect`
        await self._send({"type": "websocket.accept"})

    async def listen(self, hear: Callable[[Wire], bool]) -> int:
        """Have all messages handed over; return the code of the end.

        Args:
            hear: Handles a message, and returns whether the next may follow at once.
                What it raises ends this, too.
        """
        end = await self._listen(lambda message: hear(_content(message)))
        return end.get("code") or UNKNOWN_CODE

    async def _receive_each(self, hear: Hear) -> Message:
        while (message := await self._receive())["type"] != DISCONNECT:
            if not hear(message):
                for _ in range(GIVEN_TURNS):
                    await asyncio.sleep(0)
        return message

    def send_now(self, messages: Callable[[], Iterable[Wire]]) -> bool:
        """Send what a callable returns, unless the client has to be waited for.

        Returns:
            Whether it was called, and its messages are sent.
        """
        return self._send_now(messages)

    async def send(self, messages: Iterable[Wire]) -> None:
        """Send messages, waiting where the client does not read.

        Raises:
            OSError: The client is gone.
        """
        await self._send_all(messages)

    async def _send_each(self, messages: Iterable[Wire]) -> None:
        for data in messages:
            form = "text" if isinstance(data, str) else "bytes"
            await self._send({"type": "websocket.send", form: data})

    async def close(self, code: int, reason: str) -> None:
        """Close the connection.

        Raises:
            OSError: The client is gone.
        """
        await self._send({"type": "websocket.close", "code": code, "reason": reason})


def _content(message: Message) -> Wire:
    text: str | None = message.get("text")
    data: bytes = message.get("bytes") or b""
    return data if text is None else text


def _send_none(_: Callable[[], Iterable[Wire]]) -> bool:
    return False

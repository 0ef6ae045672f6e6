"""A websocket as ASGI gives it, without a framework's wrapper around each message.

A framework checks and converts every message once more, which at thousands of results
a second costs more than the results.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from starlette.types import Message, Receive, Scope, Send

from saccade.server.protocol.codec import Wire
from saccade.server.transport.coalescing import RECEIVE_ALL, SEND_ALL


class Disconnect(NamedTuple):
    """The end of a connection, by the client or the network."""

    code: int


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
        receive_all: Callable[[], Awaitable[list[Message]]] | None
        receive_all = state.get(RECEIVE_ALL)
        self._receive_all = receive_all or self._receive_one

    async def accept(self) -> None:
        """Complete the handshake."""
        await self._receive()  # the client's `connect`
        await self._send({"type": "websocket.accept"})

    async def receive(self) -> list[Wire | Disconnect]:
        """Wait for the client's next messages; its end is the last of all."""
        return [_content(message) for message in await self._receive_all()]

    async def _receive_one(self) -> list[Message]:
        return [await self._receive()]

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


def _content(message: Message) -> Wire | Disconnect:
    if message["type"] == "websocket.disconnect":
        return Disconnect(message.get("code") or 1005)
    text: str | None = message.get("text")
    data: bytes = message.get("bytes") or b""
    return data if text is None else text

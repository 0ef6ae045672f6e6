"""uvicorn's websocket protocol, with one write to the socket for many messages.

uvicorn writes each message by itself: a system call each, and as many small packets.
The transport here collects what is written during one turn of the event loop, and
writes it at the end of the turn. An application that has many messages gives them to
`send_all`, which it finds in its scope's state: ASGI's `send` takes one message, and
passes it through every middleware, which costs more than the message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from websockets.exceptions import InvalidState

from saccade.server.protocol.codec import Wire

SEND_ALL: Final = "saccade.send_all"
"""The name of `CoalescingProtocol.send_all` in the state of a connection's scope."""

LINGER_S: Final = 10.0
"""Time for a client to read what was written before the connection was closed."""

LARGEST_WRITE: Final = 1 << 16
"""Bytes that are collected at most; a transport is told of a slow client by them."""


class CoalescingTransport:
    """Passes on what uvicorn writes to a transport, once in a turn of the event loop.

    Args:
        transport: The connection's transport.
        loop: The event loop that it belongs to.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []
        self._size = 0
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        """Write bytes at the end of this turn, or at once where many are collected."""
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)
        self._size += len(data)
        if self._size > LARGEST_WRITE:
            self._flush()

    def close(self) -> None:
        """Close the transport once all is written, or once `LINGER_S` have passed."""
        self._flush()
        self._transport.close()
        self._loop.call_later(LINGER_S, self._transport.abort)

    def _flush(self) -> None:
        written, self._written, self._size = self._written, [], 0
        if written and not self._transport.is_closing():
            self._transport.write(b"".join(written))


class CoalescingProtocol(asyncio.Protocol):
    """uvicorn's protocol of one websocket, on a `CoalescingTransport`.

    uvicorn makes it as `ws` of its configuration says, with the options of its own.
    """

    def __init__(self, app_state: dict[str, Any], **options: Any) -> None:
        state = {**app_state, SEND_ALL: self.send_all}
        self._protocol = WebSocketsSansIOProtocol(app_state=state, **options)
        self.data_received = self._protocol.data_received  # type: ignore[method-assign]
        self.eof_received = self._protocol.eof_received  # type: ignore[method-assign]
        self.connection_lost = self._protocol.connection_lost  # type: ignore[method-assign]
        self.pause_writing = self._protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = self._protocol.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the connection's transport to uvicorn, wrapped."""
        direct = cast(asyncio.Transport, transport)
        wrapped = CoalescingTransport(direct, self._protocol.loop)
        self._protocol.connection_made(cast(asyncio.BaseTransport, wrapped))

    async def send_all(self, messages: Iterable[Wire]) -> None:
        """Send messages in few writes, waiting where the client does not read.

        Raises:
            OSError: The client is gone, or the connection is being closed.
        """
        await self._wait_until_writable()
        size = 0
        for message in messages:
            self._add(message)
            size += len(message)
            if size > LARGEST_WRITE:
                self._write()
                await self._wait_until_writable()
                size = 0
        self._write()

    async def _wait_until_writable(self) -> None:
        await self._protocol.writable.wait()
        if self._protocol.disconnected:
            raise ConnectionResetError("the client is gone")

    def _add(self, message: Wire) -> None:
        connection = self._protocol.conn
        try:
            if isinstance(message, str):
                connection.send_text(message.encode())
            else:
                connection.send_binary(message)
        except InvalidState:
            raise ConnectionResetError("the connection is being closed") from None

    def _write(self) -> None:
        self._protocol.transport.write(b"".join(self._protocol.conn.data_to_send()))

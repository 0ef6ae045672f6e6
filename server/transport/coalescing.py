"""uvicorn's websocket protocol, with one write to the socket for many messages.

uvicorn writes each message by itself: a system call each, and as many small packets.
The transport here collects what is written during one turn of the event loop, and
writes it at the end of the turn.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)

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

    def __init__(self, **options: Any) -> None:
        self._protocol = WebSocketsSansIOProtocol(**options)
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

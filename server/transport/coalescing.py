"""uvicorn's websocket protocol, with one write for many messages, and an inbox.

uvicorn writes each message by itself: a system call each, and as many small packets.
The transport here collects what is written during one turn of the event loop, and
writes it at the end of the turn. An application that has many messages gives them to
`send_all`, which it finds in its scope's state: ASGI's `send` takes one message, and
passes it through every middleware, which costs more than the message. Where the client
reads as fast as it is sent to, `send_now` needs no coroutine.

What is received waits in an `Inbox`, to which an application listens by a callable that
it finds likewise.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from websockets.protocol import State

from saccade.server.protocol.codec import Wire
from saccade.server.transport.inbox import LISTEN, Inbox, ReadTurns

SEND_ALL: Final = "saccade.send_all"
"""The name of `CoalescingProtocol.send_all` in the state of a connection's scope."""

SEND_NOW: Final = "saccade.send_now"
"""The name of `CoalescingProtocol.send_now` there."""

LINGER_S: Final = 10.0
"""Time for a client to read what was written before the connection was closed."""

LARGEST_WRITE: Final = 1 << 16
"""Bytes that are collected at most; a transport is told of a slow client by them."""

# The header of a websocket frame that is a whole message, RFC 6455, 5.2.
TEXT: Final = 0x81
BINARY: Final = 0x82
LARGEST_SHORT: Final = 125
TWO_BYTES: Final = 126
EIGHT_BYTES: Final = 127
_MEDIUM: Final = struct.Struct("!BBH")
_LONG: Final = struct.Struct("!BBQ")


class CoalescingTransport:
    """Passes on what uvicorn writes to a transport, once in a turn of the event loop.

    Args:
        transport: The connection's transport.
        loop: The event loop that it belongs to.
        inbox: Pauses and resumes the transport's reading.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []
        self._size = 0
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.resume_reading = inbox.resume_reading

    def pause_reading(self) -> None:
        """Do nothing: the inbox pauses reading where many messages wait."""

    def write(self, data: bytes) -> None:
        """Write bytes at the end of this turn, or at once where many are collected."""
        if not self._written:
            self._loop.call_soon(self.flush)
        self._written.append(data)
        self._size += len(data)
        if self._size > LARGEST_WRITE:
            self.flush()

    def close(self) -> None:
        """Close the transport once all is written, or once `LINGER_S` have passed."""
        self.flush()
        self._transport.close()
        self._loop.call_later(LINGER_S, self._transport.abort)

    def flush(self) -> None:
        """Write what is collected."""
        written, self._written, self._size = self._written, [], 0
        if written and not self._transport.is_closing():
            self._transport.write(b"".join(written))


class CoalescingProtocol(asyncio.Protocol):
    """uvicorn's protocol of one websocket, on a `CoalescingTransport`.

    uvicorn makes it as `ws` of its configuration says, with the options of its own.

    Args:
        turns: Whose messages are handled next; one for an event loop.
        app_state: What every connection's scope has.
        options: uvicorn's.
    """

    def __init__(
        self, turns: ReadTurns, app_state: dict[str, Any], **options: Any
    ) -> None:
        self._inbox = Inbox(turns)
        own = {
            SEND_ALL: self.send_all,
            SEND_NOW: self.send_now,
            LISTEN: self._inbox.listen,
        }
        state = {**app_state, **own}
        self._protocol = WebSocketsSansIOProtocol(app_state=state, **options)
        self._protocol.queue = self._inbox  # type: ignore[assignment]
        self.data_received = self._protocol.data_received  # type: ignore[method-assign]
        self.eof_received = self._protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = self._protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = self._protocol.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the connection's transport to uvicorn, wrapped."""
        direct = cast(asyncio.Transport, transport)
        self._inbox.attach(direct)
        loop = self._protocol.loop
        self._transport = CoalescingTransport(direct, loop, self._inbox)
        self._protocol.connection_made(cast(asyncio.BaseTransport, self._transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell uvicorn, and forget the connection."""
        self._protocol.connection_lost(exc)
        self._inbox.close()

    def send_now(self, messages: Callable[[], Iterable[Wire]]) -> bool:
        """Send messages, and return True, unless the client does not read, or is gone.

        Args:
            messages: Returns them; not called otherwise.
        """
        protocol = self._protocol
        is_open = protocol.conn.state is State.OPEN and not protocol.disconnected
        if not (is_open and protocol.writable.is_set()):
            return False
        for data in _written(messages()):
            self._transport.write(data)
        self._transport.flush()
        return True

    async def send_all(self, messages: Iterable[Wire]) -> None:
        """Send messages in few writes, waiting where the client does not read.

        Raises:
            OSError: The client is gone, or the connection is being closed.
        """
        for data in _written(messages):
            await self._wait_until_writable()
            self._transport.write(data)
        self._transport.flush()

    async def _wait_until_writable(self) -> None:
        await self._protocol.writable.wait()
        if self._protocol.disconnected:
            raise ConnectionResetError("the client is gone")
        if self._protocol.conn.state is not State.OPEN:
            raise ConnectionResetError("the connection is being closed")


def _written(messages: Iterable[Wire]) -> Iterator[bytes]:
    """Yield the frames of messages, as many at a time as are written at once."""
    parts: list[bytes] = []
    size = 0
    for message in messages:
        if isinstance(message, str):
            data, kind = message.encode(), TEXT
        else:
            data, kind = message, BINARY
        parts += (frame_header(kind, len(data)), data)
        size += len(data)
        if size > LARGEST_WRITE:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def frame_header(kind: int, size: int) -> bytes:
    """Return what comes before a message's data: one whole frame, not masked.

    websockets' own way takes many times as long, and a result is one such frame.
    """
    if size <= LARGEST_SHORT:
        return bytes((kind, size))
    if size < 1 << 16:
        return _MEDIUM.pack(kind, TWO_BYTES, size)
    return _LONG.pack(kind, EIGHT_BYTES, size)

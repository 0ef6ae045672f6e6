"""uvicorn's websocket protocol, with one write and one wake-up for many messages.

uvicorn writes each message by itself: a system call each, and as many small packets.
The transport here collects what is written during one turn of the event loop, and
writes it at the end of the turn. An application that has many messages gives them to
`send_all`, which it finds in its scope's state: ASGI's `send` takes one message, and
passes it through every middleware, which costs more than the message.

uvicorn stops to read from the socket at each message, until the application has taken
it: two system calls a message. The inbox here stops once much waits. An application
takes all that waits at once by `receive_all`, from its scope's state likewise.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from typing import Any, Final, cast

from starlette.types import Message
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from websockets.protocol import State

from saccade.server.protocol.codec import Wire

SEND_ALL: Final = "saccade.send_all"
"""The name of `CoalescingProtocol.send_all` in the state of a connection's scope."""

RECEIVE_ALL: Final = "saccade.receive_all"
"""The name of `Inbox.take_all` in the state of a connection's scope."""

LINGER_S: Final = 10.0
"""Time for a client to read what was written before the connection was closed."""

LARGEST_WRITE: Final = 1 << 16
"""Bytes that are collected at most; a transport is told of a slow client by them."""

MOST_WAITING: Final = 1 << 16
"""Bytes of messages that wait for the application before reading is paused; one read
from the socket, of at most 256 KiB, may bring more."""

# The header of a websocket frame that is a whole message, RFC 6455, 5.2.
TEXT: Final = 0x81
BINARY: Final = 0x82
LARGEST_SHORT: Final = 125
TWO_BYTES: Final = 126
EIGHT_BYTES: Final = 127
_MEDIUM: Final = struct.Struct("!BBH")
_LONG: Final = struct.Struct("!BBQ")


class Inbox:
    """The messages of one websocket that wait for the application.

    It stands in for the queue of uvicorn's protocol: `put_nowait`, `get` and `empty`
    are what uvicorn calls. One coroutine takes messages.
    """

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._size = 0
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    def attach(self, transport: asyncio.Transport) -> None:
        """Pause and resume the reading of this transport."""
        self._transport = transport

    def put_nowait(self, message: Message) -> None:
        """Add a message, and pause reading where many wait."""
        self._messages.append(message)
        self._size += _size_of(message)
        if self._size > MOST_WAITING and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def empty(self) -> bool:
        """Return whether no message waits."""
        return not self._messages

    async def get(self) -> Message:
        """Wait for a message, and remove the oldest."""
        await self._wait()
        message = self._messages.pop(0)
        self._size -= _size_of(message)
        if not self._messages:
            self.resume_reading()
        return message

    async def take_all(self) -> list[Message]:
        """Wait for a message, and remove all that wait, the oldest first."""
        await self._wait()
        messages, self._messages, self._size = self._messages, [], 0
        self.resume_reading()
        return messages

    def resume_reading(self) -> None:
        """Read from the socket again, if that was paused."""
        if self._paused and self._transport and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    async def _wait(self) -> None:
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None


def _size_of(message: Message) -> int:
    return len(message.get("bytes") or message.get("text") or b"")


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
    """

    def __init__(self, app_state: dict[str, Any], **options: Any) -> None:
        self._inbox = Inbox()
        own = {SEND_ALL: self.send_all, RECEIVE_ALL: self._inbox.take_all}
        state = {**app_state, **own}
        self._protocol = WebSocketsSansIOProtocol(app_state=state, **options)
        self._protocol.queue = self._inbox  # type: ignore[assignment]
        self.data_received = self._protocol.data_received  # type: ignore[method-assign]
        self.eof_received = self._protocol.eof_received  # type: ignore[method-assign]
        self.connection_lost = self._protocol.connection_lost  # type: ignore[method-assign]
        self.pause_writing = self._protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = self._protocol.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the connection's transport to uvicorn, wrapped."""
        direct = cast(asyncio.Transport, transport)
        self._inbox.attach(direct)
        loop = self._protocol.loop
        self._transport = CoalescingTransport(direct, loop, self._inbox)
        self._protocol.connection_made(cast(asyncio.BaseTransport, self._transport))

    async def send_all(self, messages: Iterable[Wire]) -> None:
        """Send messages in few writes, waiting where the client does not read.

        Raises:
            OSError: The client is gone, or the connection is being closed.
        """
        await self._wait_until_writable()
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
                self._transport.write(b"".join(parts))
                await self._wait_until_writable()
                parts, size = [], 0
        self._transport.write(b"".join(parts))
        self._transport.flush()

    async def _wait_until_writable(self) -> None:
        await self._protocol.writable.wait()
        if self._protocol.disconnected:
            raise ConnectionResetError("the client is gone")
        if self._protocol.conn.state is not State.OPEN:
            raise ConnectionResetError("the connection is being closed")


def frame_header(kind: int, size: int) -> bytes:
    """Return what comes before a message's data: one whole frame, not masked.

    websockets' own way takes many times as long, and a result is one such frame.
    """
    if size <= LARGEST_SHORT:
        return bytes((kind, size))
    if size < 1 << 16:
        return _MEDIUM.pack(kind, TWO_BYTES, size)
    return _LONG.pack(kind, EIGHT_BYTES, size)

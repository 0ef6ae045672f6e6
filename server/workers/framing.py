"""Messages of msgpack over a byte stream, each after its length."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Final, cast

LENGTH: Final = struct.Struct("<I")
COPIED_BYTES: Final = 1 << 16
"""Longer messages are sent as they are, after their length: a copy would cost more."""


def framed(message: bytes) -> bytes:
    """Return a message with its length before it."""
    return LENGTH.pack(len(message)) + message


class FrameReader:
    """Cuts a byte stream into its messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the messages that are whole with them."""
        self._buffer += data
        messages, start = [], 0
        while len(self._buffer) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, start)
            end = start + LENGTH.size + length
            if end > len(self._buffer):
                break
            with memoryview(self._buffer) as view:
                messages.append(bytes(view[start + LENGTH.size : end]))
            start = end
        del self._buffer[:start]
        return messages


class FrameProtocol(asyncio.Protocol):
    """A connection that passes whole messages on, in order, on the event loop.

    Args:
        receive: Called with each message.
        lost: Called once, when the connection has ended.
    """

    def __init__(
        self, receive: Callable[[bytes], None], lost: Callable[[], None]
    ) -> None:
        self._receive = receive
        self._lost = lost
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection to write to."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Pass on the messages that are whole."""
        for message in self._reader.feed(data):
            self._receive(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the connection has ended."""
        self._transport = None
        self._lost()

    def send(self, message: bytes) -> None:
        """Send a message; without a connection it is dropped."""
        if self._transport is not None:
            if len(message) > COPIED_BYTES:
                self._transport.write(LENGTH.pack(len(message)))
                self._transport.write(message)
            else:
                self._transport.write(framed(message))

    def close(self) -> None:
        """End the connection once everything is sent."""
        if self._transport is not None:
            self._transport.close()

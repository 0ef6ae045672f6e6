"""A server that only counts: what a load generator can send when nothing holds it back.

    python -m benchmarks.sink

It speaks as much of the wire as `saccade.clients.benchmark` needs, acknowledges every
frame as it comes, and scores nothing. Its port is its first line of output.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import Any, Final

import msgpack

from saccade.clients.benchmark import wire
from saccade.clients.benchmark.frames import head
from saccade.model.events.encodings.packed import RECORD_BYTES

ENVELOPE_BYTES: Final = len(head(1, 0, 0))
OPENED: Final[dict[str, Any]] = {
    "type": "opened",
    "model": "sink",
    "tick_events": 256,
    "window_events": 1 << 19,
    "window_bytes": 1 << 22,
}


class SinkConnection(asyncio.Protocol):
    """One connection, whose frames are acknowledged and forgotten."""

    def __init__(self) -> None:
        self._handshake: bytes | None = b""
        self._parser = wire.FrameParser()
        self._frames = 0
        self._events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the handshake, then every message."""
        if self._handshake is not None:
            self._handshake += data
            if b"\r\n\r\n" not in self._handshake:
                return
            self._shake_hands(self._handshake)
            self._handshake = None
            return
        before = self._frames
        for frame in self._parser.feed(data):
            self._take(frame)
        if self._frames > before:
            self._acknowledge()

    def _shake_hands(self, request: bytes) -> None:
        lines = (line.partition(": ") for line in request.decode().split("\r\n"))
        key = next(value for name, _, value in lines if name == "Sec-WebSocket-Key")
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
            + wire.accept(key).encode()
            + b"\r\n\r\n"
        )

    def _take(self, frame: wire.Frame) -> None:
        if frame.opcode != wire.BINARY:
            return
        if frame.payload.startswith(head(1, 0, 0)[:12]):
            self._frames += 1
            self._events += (len(frame.payload) - ENVELOPE_BYTES) // RECORD_BYTES
            return
        message = msgpack.unpackb(frame.payload)
        if message["type"] == "open":
            self._send(OPENED)
        elif message["type"] == "close":
            self._send({"type": "closed", "events": self._events, "pending": 0})

    def _acknowledge(self) -> None:
        size = RECORD_BYTES * self._events
        counts = {"seq": self._frames, "events": self._events, "bytes": size}
        self._send({"type": "ack", **counts})

    def _send(self, message: dict[str, Any]) -> None:
        self._transport.write(wire.plain(wire.BINARY, msgpack.packb(message)))


@contextmanager
def sink() -> Iterator[str]:
    """Run a sink in a process of its own; yield its address."""
    command = [sys.executable, "-m", "benchmarks.sink"]
    with Popen(command, stdout=PIPE, stdin=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield f"ws://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()


async def serve() -> None:
    """Serve until the input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(SinkConnection, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())

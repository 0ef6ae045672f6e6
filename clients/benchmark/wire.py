"""Websocket framing without a library: what a load generator needs of RFC 6455.

A client must mask what it sends. It does so here with a key of zeros, which leaves the
bytes as they are; the server still unmasks them, so its work is that of any client.
No socket here: bytes in, messages out.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterator, Mapping
from hashlib import sha1
from typing import Final, NamedTuple
from urllib.parse import urlsplit

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
FINAL: Final = 0x80
MASKED: Final = 0x80
NO_MASK: Final = bytes(4)
GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LONGEST_HEAD: Final = 1 << 16


class BadFrame(Exception):
    """The peer's bytes are no websocket that this module can read."""


class Refused(Exception):
    """The handshake was answered with another status than 101.

    Args:
        status: The HTTP status.
        body: The answer's body, as far as it came.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body

    def __str__(self) -> str:
        text = self.body[:200].decode(errors="replace")
        return f"the handshake was refused with HTTP status {self.status}: {text}"


class Frame(NamedTuple):
    """One message, or one control frame, that came whole."""

    opcode: int
    payload: bytes


def new_key() -> str:
    """Return a `Sec-WebSocket-Key`."""
    return base64.b64encode(os.urandom(16)).decode()


def accept(key: str) -> str:
    """Return the `Sec-WebSocket-Accept` that answers a key."""
    return base64.b64encode(sha1(key.encode() + GUID).digest()).decode()


def request(url: str, key: str, headers: Mapping[str, str]) -> bytes:
    """Return the handshake's request for a `ws` or `wss` address."""
    parts = urlsplit(url)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def read_response(received: bytes, key: str) -> int | None:
    """Return the length of the handshake's answer; None while it is not whole.

    Raises:
        Refused: The server's status is not 101.
        BadFrame: The answer is no answer to this key.
    """
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        if len(received) > LONGEST_HEAD:
            raise BadFrame("the answer to the handshake has no end")
        return None
    status, *lines = head.decode("latin-1").split("\r\n")
    words = status.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdecimal():
        raise BadFrame("the answer to the handshake is no HTTP")
    if words[1] != "101":
        raise Refused(int(words[1]), body)
    headers = {name.strip().lower(): v.strip() for name, _, v in map(_field, lines)}
    if headers.get("sec-websocket-accept") != accept(key):
        raise BadFrame("the answer to the handshake is not for this request")
    return len(head) + len(end)


def _field(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def masked(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame."""
    return head(opcode, len(payload), MASKED) + NO_MASK + payload


def plain(opcode: int, payload: bytes) -> bytes:
    """Return a server's frame."""
    return head(opcode, len(payload), 0) + payload


def head(opcode: int, size: int, mask: int) -> bytes:
    """Return a frame's first bytes, up to its mask."""
    if size < 126:
        return bytes((FINAL | opcode, mask | size))
    if size < 1 << 16:
        return struct.pack(">BBH", FINAL | opcode, mask | 126, size)
    return struct.pack(">BBQ", FINAL | opcode, mask | 127, size)


class FrameParser:
    """Cuts a stream of bytes into frames; a message in several frames is joined.

    Frames may be masked with a key of zeros, or not at all.
    """

    def __init__(self) -> None:
        self._received = bytearray()
        self._parts: list[Frame] = []

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes, and yield every frame that is whole by now.

        Raises:
            BadFrame: A reserved bit is set, or a frame is really masked.
        """
        received = self._received
        received += data
        start = 0
        try:
            while (found := self._next(received, start)) is not None:
                frame, final, start = found
                if frame.opcode >= CLOSE or (final and not self._parts):
                    yield frame
                else:
                    self._parts.append(frame)
                    if final:
                        parts, self._parts = self._parts, []
                        whole = b"".join(part.payload for part in parts)
                        yield Frame(parts[0].opcode, whole)
        finally:
            del received[:start]

    @staticmethod
    def _next(data: bytearray, start: int) -> tuple[Frame, bool, int] | None:
        """Return the frame at `start`, whether it is final, and where it ends."""
        have = len(data) - start
        if have < 2:
            return None
        first, second = data[start], data[start + 1]
        if first & 0x70:
            raise BadFrame("a reserved bit is set: no extension was agreed")
        size, place = second & 0x7F, start + 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if have < 2 + wide:
                return None
            size = int.from_bytes(data[place : place + wide], "big")
            place += wide
        if second & MASKED:
            place += 4
        end = place + size
        if len(data) < end:
            return None
        if second & MASKED and data[place - 4 : place] != NO_MASK:
            raise BadFrame("a frame is masked")
        return Frame(first & 0xF, bytes(data[place:end])), bool(first & FINAL), end

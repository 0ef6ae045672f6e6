"""A request's body, taken in up to its limit, packed or as it is."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Final, Protocol

from fastapi import Request

from saccade.server.transport.problems import Problem

GZIP_BITS: Final = 16 + zlib.MAX_WBITS


class Unpacker(Protocol):
    """Turns what comes in into what was meant."""

    def feed(self, part: bytes, most: int) -> bytes:
        """Take a part of the body; return no more than `most` bytes."""

    def finish(self) -> None:
        """Take the end; raises `Problem` where something is missing."""


class AsItIs:
    """A body that is not packed."""

    def feed(self, part: bytes, most: int) -> bytes:
        """Return the part, as far as it is wanted."""
        return part[:most]

    def finish(self) -> None:
        """Take the end."""


class Gunzip:
    """A body in gzip's format."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(GZIP_BITS)

    def feed(self, part: bytes, most: int) -> bytes:
        """Unpack a part; a bomb goes off no further than `most`."""
        if self._inflater.eof:
            raise _damaged("something follows its end")
        try:
            unpacked = self._inflater.decompress(part, most)
        except zlib.error as error:
            raise _damaged(str(error)) from None
        if self._inflater.unused_data:
            raise _damaged("something follows its end")
        return unpacked

    def finish(self) -> None:
        """Take the end; it must be that of the archive too."""
        if not self._inflater.eof:
            raise _damaged("it has no end")


UNPACKERS: Final[dict[str, Callable[[], Unpacker]]] = {
    "": AsItIs,
    "identity": AsItIs,
    "gzip": Gunzip,
}


async def take_in(
    request: Request, limit: int, arrived: Callable[[int], object]
) -> bytes:
    """Return a request's body, unpacked.

    Args:
        request: The request.
        limit: Bytes that it may have, as sent and once unpacked.
        arrived: Hears how many bytes came, part by part.

    Raises:
        Problem: It is too long, cannot be unpacked, or is packed in another way.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in UNPACKERS:
        raise Problem(
            415, "unsupported_content_encoding", "send the body as it is, or gzip it",
            field="content-encoding", value=encoding,
        )  # fmt: skip
    unpacker, body, sent = UNPACKERS[encoding](), bytearray(), 0
    async for part in request.stream():
        if not part:
            continue
        arrived(len(part))
        sent += len(part)
        most = limit + 1 - len(body)
        body += await asyncio.to_thread(unpacker.feed, part, most)
        if max(sent, len(body)) > limit:
            detail = f"the body is longer than {limit} bytes"
            raise Problem(413, "body_too_large", detail, value=max(sent, len(body)))
    unpacker.finish()
    return bytes(body)


def _damaged(reason: str) -> Problem:
    return Problem(400, "malformed_body", f"cannot unpack the body: {reason}")

"""A request's body, received up to its limit and unpacked."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Final

from fastapi import Request

from saccade.server.transport.problems import Problem

GZIP_BITS: Final = 16 + zlib.MAX_WBITS


async def receive_body(
    request: Request, limit: int, received: Callable[[int], object]
) -> bytes:
    """Return a request's body, unpacked where it is gzipped.

    Args:
        request: The request.
        limit: Bytes that the body may have, as sent and once unpacked.
        received: Receives the number of bytes of each part.

    Raises:
        Problem: The body is too long, damaged, or packed in another way than gzip.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip"}:
        raise Problem(
            415, "unsupported_content_encoding", "send the body as it is, or gzip it",
            field="content-encoding", value=encoding,
        )  # fmt: skip
    inflater = Inflater() if encoding == "gzip" else None
    body, sent = bytearray(), 0
    async for part in request.stream():
        if not part:
            continue
        received(len(part))
        sent += len(part)
        most = limit + 1 - len(body)
        if inflater is None:
            body += part[:most]
        else:
            body += await asyncio.to_thread(inflater.feed, part, most)
        if max(sent, len(body)) > limit:
            detail = f"the body is longer than {limit} bytes"
            raise Problem(413, "body_too_large", detail, value=max(sent, len(body)))
    if inflater is not None:
        inflater.finish()
    return bytes(body)


class Inflater:
    """Unpacks one gzip archive, part by part."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(GZIP_BITS)

    def feed(self, part: bytes, most: int) -> bytes:
        """Unpack a part; return at most `most` bytes, however much it holds.

        Raises:
            Problem: The archive is damaged, or something follows its end.
        """
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
        """Raise `Problem` unless the archive has ended."""
        if not self._inflater.eof:
            raise _damaged("it has no end")


def _damaged(reason: str) -> Problem:
    return Problem(400, "malformed_body", f"cannot unpack the body: {reason}")

"""A request's body, received up to its limit and unpacked."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from saccade.server.transport.problems import Problem

GZIP_BITS: Final = 16 + zlib.MAX_WBITS
PIECE_BYTES: Final = 1 << 20
"""The most that one part of a gzipped body unfolds into at a time."""


async def receive_body(
    request: Request, limit: int, received: Callable[[int], object], silence_s: float
) -> bytearray:
    """Return a request's body, unpacked where it is gzipped; see `receive_pieces`."""
    body = bytearray()  # takes no more memory where the pieces are tiny
    async for piece in receive_pieces(request, limit, received, silence_s):
        body += piece
    return body


async def receive_pieces(
    request: Request, limit: int, received: Callable[[int], object], silence_s: float
) -> AsyncIterator[bytes]:
    """Yield a request's body in pieces, unpacked where it is gzipped.

    Args:
        request: The request.
        limit: Bytes that the body may have, as sent and once unpacked.
        received: Receives the number of bytes of each part, as sent.
        silence_s: Seconds within which the next part must come.

    Raises:
        Problem: The body is too long, damaged, or packed in another way than gzip, or
            its client is silent.
    """
    inflater = _inflater_for(request)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_long(limit, int(announced))
    sent = unpacked = 0
    async for part in _parts(request, silence_s):
        received(len(part))
        sent += len(part)
        if sent > limit:
            raise _too_long(limit, sent)
        if inflater is None:
            yield part
            continue
        pieces = inflater.feed(part)
        while piece := await asyncio.to_thread(next, pieces, b""):
            unpacked += len(piece)
            if unpacked > limit:
                raise _too_long(limit, unpacked)
            yield piece
    if inflater is not None:
        inflater.finish()


def _inflater_for(request: Request) -> Inflater | None:
    """Return what unpacks a body, if it is packed.

    Raises:
        Problem: It is packed in another way than gzip.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip"}:
        raise Problem(
            415, "unsupported_content_encoding", "send the body as it is, or gzip it",
            field="content-encoding", value=encoding,
        )  # fmt: skip
    return Inflater() if encoding == "gzip" else None


async def _parts(request: Request, silence_s: float) -> AsyncIterator[bytes]:
    """Yield the parts of a body as they come.

    Raises:
        Problem: None comes for too long, or the client is gone.
    """
    parts = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(silence_s):
                part = await anext(parts)
        except StopAsyncIteration:
            return
        except TimeoutError:
            detail = f"nothing of the body came for {silence_s:g} s"
            raise Problem(408, "request_timeout", detail, value=silence_s) from None
        except ClientDisconnect:
            detail = "the client left before the body's end"
            raise Problem(400, "malformed_body", detail) from None
        if part:
            yield part


class Inflater:
    """Unpacks one gzip archive, part by part."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(GZIP_BITS)

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Yield what a part unfolds into, at most `PIECE_BYTES` at a time.

        Raises:
            Problem: The archive is damaged, or something follows its end.
        """
        while part:
            if self._inflater.eof:
                raise _damaged("something follows its end")
            try:
                piece = self._inflater.decompress(part, PIECE_BYTES)
            except zlib.error as error:
                raise _damaged(str(error)) from None
            part = self._inflater.unconsumed_tail or self._inflater.unused_data
            if piece:
                yield piece

    def finish(self) -> None:
        """Raise `Problem` unless the archive has ended."""
        if not self._inflater.eof:
            raise _damaged("it has no end")


def _damaged(reason: str) -> Problem:
    return Problem(400, "malformed_body", f"cannot unpack the body: {reason}")


def _too_long(limit: int, size: int) -> Problem:
    detail = f"the body is longer than {limit} bytes"
    return Problem(413, "body_too_large", detail, value=size)

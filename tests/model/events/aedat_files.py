"""Writers of AEDAT 2 and 3.1 files, byte by byte after the formats' definitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Row = tuple[int, int, int, int]
"""t (µs), x, y and p of an event, the origin in the upper left corner."""

HEADER_31 = (
    b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n"
    b"#Start-Time: 2016-09-06 13:31:56 (TZ+0200)\r\n#!END-HEADER\r\n"
)


def packet_31(
    rows: Sequence[Row],
    *,
    valid: Sequence[bool] | None = None,
    epoch: int = 0,
    source: int = 1,
) -> bytes:
    """Return one packet of polarity events."""
    marks = [True] * len(rows) if valid is None else valid
    words = [
        (x << 17 | y << 2 | p << 1 | mark, t)
        for (t, x, y, p), mark in zip(rows, marks, strict=True)
    ]
    payload = np.array(words, "<u4").tobytes()
    return head_31(1, 8, len(rows), sum(marks), epoch, source) + payload


def special_31(kinds: Iterable[tuple[int, int]], source: int = 1) -> bytes:
    """Return one packet of special events, of a type and a time each."""
    words = [(kind << 1 | 1, t) for kind, t in kinds]
    head = head_31(0, 8, len(words), len(words), source=source)
    return head + np.array(words, "<u4").tobytes()


def head_31(
    kind: int, size: int, number: int, valid: int, epoch: int = 0, source: int = 1
) -> bytes:
    """Return a packet's 28 bytes of header."""
    rest = np.array([size, 4, epoch, number, number, valid], "<i4")
    return np.array([kind, source], "<i2").tobytes() + rest.tobytes()


def aedat_31(packets: Iterable[bytes], header: bytes = HEADER_31) -> bytes:
    return header + b"".join(packets)


MARKER = b"#End Of ASCII Header\r\n"


def header_2(chip: str | None = None, *, marker: bool = False) -> bytes:
    """Return the header of an AEDAT 2 file; early ones name no chip."""
    line = b"" if chip is None else f"# AEChip: {chip}\r\n".encode()
    start = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
    return start + line + (MARKER if marker else b"")


def records_2(words: Iterable[tuple[int, int]]) -> bytes:
    """Return AEDAT 2 records, of an address and a time each."""
    return np.array([*words], ">u4").tobytes()


def dvs128_2(rows: Iterable[Row], chip: str | None = None) -> bytes:
    """Return an AEDAT 2 file of a DVS128, whose hardware inverts the polarity."""
    words = [((127 - y) << 8 | (127 - x) << 1 | 1 - p, t) for t, x, y, p in rows]
    return header_2(chip) + records_2(words)


def davis_address(size: tuple[int, int], x: int, y: int, p: int) -> int:
    """Return a DAVIS's address of an event: right and below is 0."""
    return (size[1] - 1 - y) << 22 | (size[0] - 1 - x) << 12 | p << 11


def davis240_2(rows: Iterable[Row], others: Iterable[int] = ()) -> bytes:
    """Return an AEDAT 2 file of a DAVIS240C; `others` are addresses to skip."""
    words = [(davis_address((240, 180), x, y, p), t) for t, x, y, p in rows]
    words += [(address, 0) for address in others]
    return header_2("eu.seebetter.ini.chips.davis.DAVIS240C") + records_2(words)

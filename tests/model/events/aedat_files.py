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
    rows: Sequence[Row], *, valid: Sequence[bool] | None = None, epoch: int = 0
) -> bytes:
    """Return one packet of polarity events."""
    marks = [True] * len(rows) if valid is None else valid
    words = [
        (x << 17 | y << 2 | p << 1 | mark, t)
        for (t, x, y, p), mark in zip(rows, marks, strict=True)
    ]
    payload = np.array(words, "<u4").tobytes()
    return head_31(1, 8, len(rows), sum(marks), epoch) + payload


def head_31(kind: int, size: int, number: int, valid: int, epoch: int = 0) -> bytes:
    """Return a packet's 28 bytes of header."""
    rest = np.array([size, 4, epoch, number, number, valid], "<i4")
    return np.array([kind, 1], "<i2").tobytes() + rest.tobytes()


def aedat_31(packets: Iterable[bytes], header: bytes = HEADER_31) -> bytes:
    return header + b"".join(packets)


def dvs128_2(rows: Iterable[Row]) -> bytes:
    """Return an AEDAT 2 file of a DVS128, whose header names no chip."""
    words = [((127 - y) << 8 | x << 1 | p, t) for t, x, y, p in rows]
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
    return header + np.array(words, ">u4").tobytes()


def davis240_2(rows: Iterable[Row], others: Iterable[int] = ()) -> bytes:
    """Return an AEDAT 2 file of a DAVIS240C; `others` are addresses to skip."""
    words = [((179 - y) << 22 | x << 12 | p << 11, t) for t, x, y, p in rows]
    words += [(address, 0) for address in others]
    header = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
    return header + np.array(words, ">u4").tobytes()

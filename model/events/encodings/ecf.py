"""Decoder of ECF, Prophesee's compression of the events in HDF5 files (filter 0x8ECF).

A block holds at most 65,535 events: a little-endian word of their number << 2 and two
flags, the first timestamp as u64, then timestamps, rows, columns and polarities, each
in one run of bytes:

    timestamps  u8  step << 4 | count   a count of 15: a u16 follows with the count
                    15 << 4 | bits      4 bits of a larger step, the lowest first
    rows        u16 y << 5 | count      a count of 31: a u16 follows with the count
    columns     u16 x << 5 | mask       also x + 1 … x + 5, for the mask's bits 4 … 0
    polarities  u8  p << 7 | count      a count of 127: a u16 follows with the count

Flag 1 packs columns and polarities instead, four events in three u16; flag 2 rows,
too, four events in three u32. Prophesee's own plugin, where it is installed, is
faster; h5py finds it.
"""

from __future__ import annotations

import struct
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.errors import MalformedPayload
from saccade.model.events.types import EVENT_DTYPE, Events

FILTER: Final = 0x8ECF
MOST_EVENTS: Final = 65_535
COLUMN_BITS: Final = 5

Column: TypeAlias = npt.NDArray[Any]


def decode(block: bytes) -> Events:
    """Decode one block.

    Args:
        block: A chunk of an HDF5 data set, as stored.

    Returns:
        Events, shape (n,), n at most MOST_EVENTS; timestamps as stored.

    Raises:
        MalformedPayload: The block ends early, or contradicts itself.
    """
    try:
        return _decode(block)
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise MalformedPayload("ecf", f"it ends early, or is wrong: {error}") from error


def _decode(block: bytes) -> Events:
    head, first_us = struct.unpack_from("<Iq", block)
    count = head >> 2
    if count > MOST_EVENTS:
        raise ValueError(f"{count} events announced")
    events = np.empty(count, EVENT_DTYPE)
    steps, place = _times(block, 12, count)
    events["t"] = first_us + steps
    if head & 2:
        packed = _unpacked(block, place, count, 8)
        events["y"], events["x"] = packed >> 12 & 0x7FF, packed >> 1 & 0x7FF
        events["p"] = packed & 1
        return events
    events["y"], place = _rows(block, place, count)
    if head & 1:
        packed = _unpacked(block, place, count, 4)
        events["x"], events["p"] = packed >> 1, packed & 1
        return events
    events["x"], place = _columns(block, place, count)
    events["p"] = _polarities(block, place, count)
    return events


def _times(block: bytes, place: int, count: int) -> tuple[Column, int]:
    """Return timestamps after the first, (count,), and the place behind them."""
    times, counts = [], []
    seen = t_us = step = shift = 0
    while seen < count:
        high, low = block[place] >> 4, block[place] & 15
        place += 1
        if high == 15:
            step |= low << shift
            shift += 4
            continue
        if low == 15:
            low = block[place] | block[place + 1] << 8
            place += 2
        t_us += step + high
        step = shift = 0
        times.append(t_us)
        counts.append(low)
        seen += low
    return np.repeat(np.array(times, np.int64), counts)[:count], place


def _rows(block: bytes, place: int, count: int) -> tuple[Column, int]:
    words = iter(_words(block, place, "<u2").tolist())
    rows, counts, seen = [], [], 0
    for word in words:
        low = word & 31
        place += 2
        if low == 31:
            low = next(words, 0)
            place += 2
        rows.append(word >> COLUMN_BITS)
        counts.append(low)
        seen += low
        if seen >= count:
            break
    return _repeated(rows, counts, count), place


def _columns(block: bytes, place: int, count: int) -> tuple[Column, int]:
    words = _words(block, place, "<u2")[:count]
    present = np.ones((words.size, COLUMN_BITS + 1), bool)
    for bit in range(COLUMN_BITS):
        present[:, COLUMN_BITS - bit] = words >> bit & 1
    word, offset = np.nonzero(present)
    if word.size < count:
        raise ValueError("the columns end early")
    columns = (words >> COLUMN_BITS)[word[:count]] + offset[:count].astype(np.uint16)
    used = int(word[count - 1]) + 1 if count else 0
    return columns, place + 2 * used


def _polarities(block: bytes, place: int, count: int) -> Column:
    polarities, counts, seen = [], [], 0
    while seen < count:
        low = block[place] & 127
        polarities.append(block[place] >> 7)
        place += 1
        if low == 127:
            low = block[place] | block[place + 1] << 8
            place += 2
        counts.append(low)
        seen += low
    return _repeated(polarities, counts, count)


def _repeated(values: list[int], counts: list[int], count: int) -> Column:
    repeated = np.repeat(np.array(values, np.uint16), counts)[:count]
    if repeated.size < count:
        raise ValueError("a run ends early")
    return repeated


def _unpacked(block: bytes, place: int, count: int, bits: int) -> Column:
    """Return values of 3·bits bits, (count,), packed four into three words."""
    words = _words(block, place, f"<u{bits // 2}").astype(np.int64)
    a, b, c = words[: words.size // 3 * 3].reshape(-1, 3).T
    values = np.stack(
        [
            a >> bits,
            a & (1 << bits) - 1 | b >> 2 * bits << bits,
            b & (1 << 2 * bits) - 1 | c >> 3 * bits << 2 * bits,
            c & (1 << 3 * bits) - 1,
        ],
        axis=1,
    ).reshape(-1)[:count]
    if values.size < count:
        raise ValueError("the packed values end early")
    return values


def _words(block: bytes, place: int, dtype: str) -> Column:
    size = (len(block) - place) // np.dtype(dtype).itemsize
    return np.frombuffer(block, dtype, size, place)

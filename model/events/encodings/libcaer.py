"""Decoders of ROS drivers' own encodings of single packets, beside EVT2 and EVT3.

Each packet decodes by itself: its events' times count from the packet's time base, ns.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.errors import MalformedPayload
from saccade.model.events.types import EVENT_DTYPE, Events

RECORD_BYTES: Final = 8
WORD_BYTES: Final = 2
TIME_BITS: Final = 31
TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8 = range(6)
"""The kinds of words of `libcaer_cmp`, in a word's top 4 bits."""

Column: TypeAlias = npt.NDArray[Any]


def decode_libcaer(data: bytes, time_base_ns: int) -> Events:
    """Decode iniVation's polarity events, 8 bytes each.

        u32  x << 17 | y << 2 | p << 1 | valid
        i32  µs after the time base; wraps after 2^31

    Raises:
        MalformedPayload: The last record is cut.
    """
    words = _records("libcaer", data)
    t_us = words[:, 1].astype(np.int64) & (1 << TIME_BITS) - 1
    wraps = np.diff(t_us, prepend=t_us[:1]) < -(1 << TIME_BITS - 1)
    events = np.empty(len(words), EVENT_DTYPE)
    events["t"] = t_us + (np.cumsum(wraps) << TIME_BITS) + time_base_ns // 1000
    events["x"] = words[:, 0] >> 17
    events["y"] = words[:, 0] >> 2 & 0x7FFF
    events["p"] = words[:, 0] >> 1 & 1
    return events


def decode_mono(data: bytes, time_base_ns: int) -> Events:
    """Decode records of u32 ns after the time base, and p << 31 | y << 16 | x.

    Raises:
        MalformedPayload: The last record is cut.
    """
    words = _records("mono", data)
    events = np.empty(len(words), EVENT_DTYPE)
    events["t"] = (words[:, 0].astype(np.int64) + time_base_ns) // 1000
    events["x"] = words[:, 1] & 0xFFFF
    events["y"] = words[:, 1] >> 16 & 0x7FFF
    events["p"] = words[:, 1] >> 31
    return events


def decode_libcaer_cmp(data: bytes, time_base_ns: int) -> Events:
    """Decode words of 16 bits, most of them state, as in EVT3, but along columns.

    TIME_HIGH and TIME_LOW set 12 bits each of the µs after the time base; ADDR_X sets
    x. ADDR_Y is an event; VECT_8 is one for each bit that is set, from the row on that
    VECT_BASE_Y sets, and moves that row on.

    Raises:
        MalformedPayload: The last word is cut.
    """
    if len(data) % WORD_BYTES:
        raise MalformedPayload("libcaer_cmp", f"{len(data)} bytes are half a word")
    words = np.frombuffer(data, "<u2").astype(np.int64)
    kinds, rest = words >> 12, words & 0xFFF
    high = _in_force(kinds == TIME_HIGH, rest)
    t_us = high << 12 | _in_force(kinds == TIME_LOW, rest)
    x = _in_force(kinds == ADDR_X, rest & 0x7FF)
    is_base, is_vector, is_single = (
        kinds == kind for kind in (VECT_BASE_Y, VECT_8, ADDR_Y)
    )
    moved = 8 * (np.cumsum(is_vector) - is_vector)
    y = _in_force(is_base, (rest & 0x7FF) - moved) + moved
    p = _in_force(is_base, rest >> 11)
    valid = np.where(is_vector, rest & 0xFF, is_single).astype(np.uint8)
    bits = np.unpackbits(valid[:, None], axis=1, bitorder="little")
    place, row = np.nonzero(bits)
    single = is_single[place]
    events = np.empty(place.size, EVENT_DTYPE)
    events["t"] = t_us[place] + time_base_ns // 1000
    events["x"] = x[place]
    events["y"] = np.where(single, rest[place] & 0x7FF, y[place] + row)
    events["p"] = np.where(single, rest[place] >> 11, p[place])
    return events


def _records(encoding: str, data: bytes) -> Column:
    """Return pairs of words, (n, 2)."""
    if len(data) % RECORD_BYTES:
        reason = f"{len(data)} bytes are not a multiple of {RECORD_BYTES}"
        raise MalformedPayload(encoding, reason)
    return np.frombuffer(data, "<u4").reshape(-1, 2)


def _in_force(is_set: Column, values: Column) -> Column:
    """Return, at each word, the value of the last word that set one; 0 before."""
    places = np.maximum.accumulate(np.where(is_set, np.arange(is_set.size), -1))
    return np.where(places < 0, 0, values[places])

"""The packed encoding, the wire's default: eight little-endian bytes an event.

    u32  t_offset_us          µs since the payload's t_base_us
    u32  p << 31 | y << 16 | x

x has 16 bits, y 15, p one.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.errors import EventNotPackable, MalformedPayload
from saccade.model.events.types import EVENT_DTYPE, Events

RECORD_DTYPE: Final = np.dtype([("offset_us", "<u4"), ("pixel", "<u4")])
"""A packed record as it came: the offset from the payload's base, and p, y and x."""
RECORD_BYTES: Final = RECORD_DTYPE.itemsize
OFFSET_LIMIT_US: Final = 1 << 32
Y_LIMIT: Final = 1 << 15
INT64_LIMIT: Final = 1 << 63

Records: TypeAlias = npt.NDArray[Any]
"""A one-dimensional array of RECORD_DTYPE."""


def pack(events: Events, t_base_us: int) -> bytes:
    """Encode events as packed records.

    Args:
        events: Events, shape (n,).
        t_base_us: Time that offsets count from, µs; at or before the first event.

    Returns:
        8·n bytes.

    Raises:
        EventNotPackable: An offset is negative or above 2^32 - 1 µs, y is
            above 2^15 - 1, or p is above 1.
    """
    offsets_us = events["t"] - np.int64(t_base_us)
    _check_fits("t_offset_us", offsets_us, OFFSET_LIMIT_US)
    _check_fits("y", events["y"], Y_LIMIT)
    _check_fits("p", events["p"], 2)
    words = np.empty((events.size, 2), "<u4")
    words[:, 0] = offsets_us
    words[:, 1] = events["p"]
    words[:, 1] <<= 15
    words[:, 1] |= events["y"]
    words[:, 1] <<= 16
    words[:, 1] |= events["x"]
    return words.tobytes()


def records(data: bytes | bytearray | memoryview) -> Records:
    """View packed records, without a copy.

    Args:
        data: Packed records, 8·n bytes.

    Returns:
        The records, shape (n,), in the memory of `data`.

    Raises:
        MalformedPayload: The length is not a multiple of 8.
    """
    size = memoryview(data).nbytes
    if size % RECORD_BYTES:
        raise MalformedPayload(
            "packed", f"{size} bytes are not a multiple of {RECORD_BYTES}"
        )
    return np.frombuffer(data, RECORD_DTYPE)


def unpack(data: bytes | bytearray | memoryview, t_base_us: int) -> Events:
    """Decode packed records.

    Neither order nor geometry is checked; `types.check` does that.

    Args:
        data: Packed records, 8·n bytes.
        t_base_us: Added to each record's offset, µs.

    Returns:
        Events, shape (n,), freshly allocated.

    Raises:
        MalformedPayload: The length is not a multiple of 8, or the base would
            overflow int64.
    """
    return unpack_records(records(data), t_base_us)


def unpack_records(packed: Records, t_base_us: int) -> Events:
    """Decode packed records of shape (n,), as `unpack` does."""
    check_base(t_base_us)
    pixels = packed["pixel"]
    events = np.empty(len(packed), EVENT_DTYPE)
    np.add(packed["offset_us"], np.int64(t_base_us), out=events["t"], dtype=np.int64)
    events["x"] = pixels & 0xFFFF
    events["y"] = (pixels >> 16) & 0x7FFF
    events["p"] = pixels >> 31
    return events


def check_base(t_base_us: int) -> None:
    """Raise MalformedPayload unless every offset from this base fits int64."""
    if not -INT64_LIMIT <= t_base_us <= INT64_LIMIT - OFFSET_LIMIT_US:
        raise MalformedPayload("packed", f"t_base_us {t_base_us} overflows int64")


def _check_fits(field: str, values: npt.NDArray[np.integer], limit: int) -> None:
    if not values.size or (values.min() >= 0 and values.max() < limit):
        return
    index = int(np.argmax((values < 0) | (values >= limit)))
    raise EventNotPackable(index, field, int(values[index]), limit)

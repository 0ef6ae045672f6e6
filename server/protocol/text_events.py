"""The `events` message as people write it: base64, or a list of `[t, x, y, p]`."""

from __future__ import annotations

import base64
import binascii
from itertools import chain
from typing import Any, Final

import numpy as np

from saccade.model.events.packed import OFFSET_LIMIT_US, RECORD_BYTES, pack
from saccade.model.events.types import EVENT_DTYPE
from saccade.server.protocol.errors import InvalidField
from saccade.server.protocol.fields import Parse, integer, wrong_type
from saccade.server.protocol.messages import Encoding
from saccade.server.protocol.records import Map
from saccade.server.protocol.schema import LARGEST_TIME_US, time_base_us

_COLUMNS: Final[tuple[tuple[str, Parse], ...]] = (
    ("t", integer(0, LARGEST_TIME_US - 1)),
    ("x", integer(0, 65535)),
    ("y", integer(0, 32767)),
    ("p", integer(0, 1)),
)


def as_packed(raw: Map, encoding: Encoding) -> Map:
    """Turn an `events` message parsed from JSON into what msgpack would have given.

    Raises:
        InvalidField: `data` is not base64, or `events` not a list of events, or
            the session's encoding is not that of a list.
    """
    if "events" in raw:
        if encoding != "packed":
            reason = f"must come as 'data' in a session opened with {encoding}"
            raise InvalidField("events", reason)
        return _from_list(raw)
    if type(raw.get("data")) is not str:
        return raw
    try:
        data = base64.b64decode(raw["data"], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidField("data", "is not base64", raw["data"]) from None
    return {**raw, "data": data}


def counted_bytes(raw: Map) -> int:
    """Return the length of a frame's `data` as its sender counts it, or 0."""
    if type(raw.get("events")) is list:
        return RECORD_BYTES * len(raw["events"])
    return len(raw["data"]) if type(raw.get("data")) is bytes else 0


def _from_list(raw: Map) -> Map:
    rows = raw["events"]
    if type(rows) is not list:
        raise wrong_type(rows, "events", "an array")
    if "data" in raw:
        raise InvalidField("data", "does not go with 'events', which stands for it")
    t_base_us = time_base_us(raw.get("t_base_us", 0), "t_base_us")
    table = _table(rows)
    t_us = table[:, 0]
    earliest_us = int(t_us.min()) if rows else 0
    late = t_us - earliest_us >= OFFSET_LIMIT_US
    if late.any():
        index = int(np.argmax(late))
        reason = f"is {OFFSET_LIMIT_US} µs or more after the earliest of the frame"
        raise InvalidField(f"events[{index}].t", reason, rows[index][0])
    events = np.empty(len(rows), EVENT_DTYPE)
    for column, (name, _) in enumerate(_COLUMNS):
        events[name] = table[:, column]
    kept = {name: value for name, value in raw.items() if name != "events"}
    return {
        **kept,
        "t_base_us": t_base_us + earliest_us,
        "data": pack(events, earliest_us),
    }


def _table(rows: list[Any]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Check each number, and return them as an array of shape (n, 4)."""
    for index, row in enumerate(rows):
        if type(row) is not list:
            raise wrong_type(row, f"events[{index}]", "[t, x, y, p]")
        if len(row) != len(_COLUMNS):
            reason = f"must be [t, x, y, p], not {len(row)} values"
            raise InvalidField(f"events[{index}]", reason, row)
    flat = list(chain.from_iterable(rows))
    if set(map(type, flat)) <= {int}:
        table = _within_range(flat)
        if table is not None:
            return table
    for index, row in enumerate(rows):
        for (name, parse), value in zip(_COLUMNS, row, strict=True):
            parse(value, f"events[{index}].{name}")
    raise AssertionError("the quick check and the slow one disagree")


def _within_range(
    flat: list[int],
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]] | None:
    try:
        table = np.array(flat, np.int64).reshape(-1, len(_COLUMNS))
    except OverflowError:
        return None
    limits = np.array([LARGEST_TIME_US, 65536, 32768, 2])
    return table if bool(((table >= 0) & (table < limits)).all()) else None

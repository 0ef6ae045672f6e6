"""The record type of events, its conversion from other arrays, and its checks."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.errors import EventOutsideSensor, NotEvents, UnsortedEvents
from saccade.model.events.sensor import Sensor

EVENT_DTYPE: Final = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
"""t: timestamp, µs; x, y: pixel; p: polarity, 0 (darker) or 1 (brighter)."""

Events: TypeAlias = npt.NDArray[Any]
"""A one-dimensional array of EVENT_DTYPE."""

FIELD_NAMES: Final = {
    "t": ("t", "timestamp", "ts"),
    "x": ("x",),
    "y": ("y",),
    "p": ("p", "on", "polarity"),
}
"""The names that `as_events` accepts for each field, in order of preference."""


def as_events(array: npt.NDArray[Any]) -> Events:
    """Convert a structured array of events to EVENT_DTYPE.

    Libraries disagree on names (FIELD_NAMES) and widths. A polarity may be a bool,
    0/1, or -1/+1 (-1 becomes 0). Other fields are ignored.

    Args:
        array: A structured array, shape (n,), with integer timestamps in µs.

    Returns:
        Events, shape (n,); the same array where it already has EVENT_DTYPE.

    Raises:
        NotEvents: The array is not one-dimensional and structured, a field is
            missing, or a field is not an integer.
        EventOutsideSensor: A value does not fit the field's width.
    """
    if array.ndim != 1:
        raise NotEvents(f"the array has {array.ndim} dimensions, not 1")
    if array.dtype == EVENT_DTYPE:
        return array
    columns = {field: _column(array, field) for field in FIELD_NAMES}
    events = np.empty(array.shape, EVENT_DTYPE)
    for field, column in columns.items():
        _check_range(field, column)
        events[field] = column
    return events


def _column(array: npt.NDArray[Any], field: str) -> npt.NDArray[Any]:
    present = array.dtype.names or ()
    name = next((name for name in FIELD_NAMES[field] if name in present), None)
    if name is None:
        wanted = " or ".join(FIELD_NAMES[field])
        raise NotEvents(f"no field {wanted} among ({', '.join(present)})")
    column: npt.NDArray[Any] = array[name]
    if column.dtype.kind not in "iub":
        raise NotEvents(f"field {name} is {column.dtype}, not an integer")
    if field == "p" and column.dtype.kind == "i":
        return np.where(column == -1, 0, column)
    return column


def _check_range(field: str, column: npt.NDArray[Any]) -> None:
    limits = np.iinfo(EVENT_DTYPE[field])
    if np.can_cast(column.dtype, EVENT_DTYPE[field]) or not column.size:
        return
    if column.min() < limits.min or column.max() > limits.max:
        index = int(np.argmax((column < limits.min) | (column > limits.max)))
        raise EventOutsideSensor(index, field, int(column[index]), limits.max + 1)


def check(events: Events, sensor: Sensor, last_t_us: int | None) -> None:
    """Raise unless a chunk is in order, follows its stream and is inside its sensor.

    Equal timestamps are in order: a sensor reads out a row at once.

    Args:
        events: One chunk, shape (n,); may be empty.
        sensor: The bounds of x, y and p.
        last_t_us: The timestamp of the stream's previous event, µs; None
            before the first.

    Raises:
        EventOutsideSensor: A field is out of range; names the field (x before y
            before p) and the first such event.
        UnsortedEvents: Time runs backwards; names the first such event.
    """
    check_inside(events, sensor)
    check_sorted(events, last_t_us)


def check_inside(events: Events, sensor: Sensor) -> None:
    """Raise EventOutsideSensor unless every x, y and p is within the bounds."""
    limits = {"x": sensor.width, "y": sensor.height, "p": sensor.polarities}
    for field, limit in limits.items():
        values = events[field]
        if values.size and values.max() >= limit:
            index = int(np.argmax(values >= limit))
            raise EventOutsideSensor(index, field, int(values[index]), limit)


def check_sorted(events: Events, last_t_us: int | None) -> None:
    """Raise UnsortedEvents unless time never runs backwards."""
    if not events.size:
        return
    t_us = np.ascontiguousarray(events["t"])
    if last_t_us is not None and t_us[0] < last_t_us:
        raise UnsortedEvents(0, int(t_us[0]), last_t_us)
    backwards = t_us[1:] < t_us[:-1]
    if backwards.any():
        index = int(np.argmax(backwards)) + 1
        raise UnsortedEvents(index, int(t_us[index]), int(t_us[index - 1]))

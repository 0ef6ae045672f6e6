"""Checks that a chunk's events are in order and inside their sensor."""

from __future__ import annotations

import numpy as np

from saccade.model.events.errors import EventOutsideSensor, UnsortedEvents
from saccade.model.events.types import Events, Sensor


def check(events: Events, sensor: Sensor, last_t_us: int | None) -> None:
    """Raise unless a chunk continues its stream.

    Equal timestamps are in order: a sensor reads out a row at once.

    Args:
        events: One chunk, shape (n,); may be empty.
        sensor: What x, y and p are checked against.
        last_t_us: The timestamp of the stream's previous event, µs; None
            before the first.

    Raises:
        EventOutsideSensor: A field is out of range; names the first such
            event, of x before y before p.
        UnsortedEvents: Time runs backwards; names the first such event.
    """
    check_inside(events, sensor)
    check_sorted(events, last_t_us)


def check_inside(events: Events, sensor: Sensor) -> None:
    """Raise EventOutsideSensor unless each x, y and p is one of the sensor's."""
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

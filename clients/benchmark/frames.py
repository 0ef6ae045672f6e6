"""Frames of events made before they are sent, so that sending costs almost nothing.

A few frames are packed once and sent again and again. Only the head of a message
differs from the last time: its number, and the time of its first event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgpack
import numpy as np

from saccade.model.events.encodings.packed import RECORD_BYTES, pack
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

_BEFORE_SEQ: Final = b"\x84" + msgpack.packb("type") + msgpack.packb("events")
"""A map of four fields, of which the first is `type`."""


class Frames:
    """Frames of equal size to send in turn, whose sensor time goes on for ever.

    Args:
        events: The events, a whole number of frames; only their order, pixels and
            polarities count, not their times.
        frame_events: Events a frame.
        rate: Events per second of sensor time; they are evenly spaced.

    Raises:
        ValueError: There are fewer events than one frame has, or the rate is so low
            that a frame lasts longer than the encoding allows.
    """

    def __init__(self, events: Events, frame_events: int, rate: float) -> None:
        count = len(events) // frame_events
        if not count:
            reason = f"there are {len(events):,} events, less than a frame"
            raise ValueError(f"{reason} of {frame_events:,}")
        self.frame_events = frame_events
        self.frame_s = frame_events / rate
        self.size = RECORD_BYTES * frame_events
        times_us = np.arange(frame_events) * (1e6 / rate)
        if times_us[-1] >= 2**32:
            raise ValueError(f"a frame lasts {self.frame_s:,.0f} s, more than 71 min")
        self._data = []
        for frame in np.split(events[: count * frame_events], count):
            spaced = frame.copy()
            spaced["t"] = times_us
            self._data.append(pack(spaced, 0))

    def message(self, number: int) -> bytes:
        """Return a session's frame as msgpack; its first has the number 0."""
        base_us = int(number * self.frame_s * 1e6)
        data = self._data[number % len(self._data)]
        return head(number + 1, base_us, len(data)) + data


def head(seq: int, t_base_us: int, size: int) -> bytes:
    """Return all of an `events` message that comes before its `size` bytes of data."""
    return b"".join(
        (
            _BEFORE_SEQ,
            b"\xa3seq\xcf",
            seq.to_bytes(8, "big"),
            b"\xa9t_base_us\xcf",
            t_base_us.to_bytes(8, "big"),
            b"\xa4data\xc6",
            size.to_bytes(4, "big"),
        )
    )


def random_events(sensor: Sensor, count: int, seed: int = 0) -> Events:
    """Return events at random pixels, all at time 0."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EVENT_DTYPE)
    events["x"] = rng.integers(sensor.width, size=count)
    events["y"] = rng.integers(sensor.height, size=count)
    events["p"] = rng.integers(sensor.polarities, size=count)
    return events


def first_events(chunks: Iterable[Events], count: int) -> Events:
    """Return the first events of a source; fewer where it has fewer."""
    return np.concatenate([np.empty(0, EVENT_DTYPE), *_until(chunks, count)])[:count]


def _until(chunks: Iterable[Events], count: int) -> Iterator[Events]:
    size = 0
    for chunk in chunks:
        yield chunk
        size += len(chunk)
        if size >= count:
            return

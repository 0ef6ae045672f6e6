"""What is done about events that are out of order, or outside their sensor.

Under `reject` one such event is an error. Under `skip` it is left out and counted. The
clock is followed alike in both: a timestamp far in the future is not believed once the
events after it are back where time was before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.errors import EventOutsideSensor, EventsError, UnsortedEvents
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events, check_inside, check_sorted

Invalid: TypeAlias = Literal["reject", "skip"]
"""What to do with an event that is outside its sensor or out of order."""

FAR_US: Final = 60_000_000
"""A step of time so long may be a fault: it is undone where time comes back."""

Int64s: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]


class ClockPosition(NamedTuple):
    """How far one stream's time has come.

    Attributes:
        last_us: The newest event's timestamp; None before the first.
        jumped_from_us: Where time was before the newest chunk, if that had a far step.
    """

    last_us: int | None = None
    jumped_from_us: int | None = None


START: Final = ClockPosition()


def check_clock(events: Events, at: ClockPosition) -> ClockPosition:
    """Return where time is after a chunk, which may undo the chunk before's far step.

    Raises:
        UnsortedEvents: Time runs backwards otherwise.
    """
    if not events.size:
        return at
    t_us = events["t"]
    returns = _returns(int(t_us[0]), at)
    check_sorted(events, None if returns else at.last_us)
    before = t_us[0] if returns or at.last_us is None else at.last_us
    far = np.diff(t_us, prepend=before) > FAR_US
    from_us = None
    if far.any():
        place = int(np.argmax(far))
        from_us = int(t_us[place - 1] if place else before)
    return ClockPosition(int(t_us[-1]), from_us)


def _returns(t_us: int, at: ClockPosition) -> bool:
    """Return whether an event comes back from a far step of time."""
    if at.last_us is None or at.jumped_from_us is None:
        return False
    return at.jumped_from_us <= t_us < at.last_us - FAR_US


def in_order(t_us: Int64s, at: ClockPosition) -> tuple[Mask, ClockPosition]:
    """Choose the events to keep of a chunk that may be out of order.

    An event before the newest one is left out. Where time steps far ahead and comes
    back, what was between the steps is left out instead, as far as it is in the chunk.

    Args:
        t_us: The events' timestamps, (n,), µs.
        at: Where time was before.

    Returns:
        Which events to keep, (n,), and where time is after them.
    """
    if not t_us.size:
        return np.ones(0, np.bool_), at
    first = int(t_us[0]) if at.last_us is None else at.last_us
    newest = np.maximum.accumulate(np.concatenate([[first], t_us]))
    if at.jumped_from_us is None and not (np.diff(newest) > FAR_US).any():
        return t_us >= newest[1:], ClockPosition(int(newest[-1]))
    return _one_by_one(t_us, at)


def _one_by_one(t_us: Int64s, at: ClockPosition) -> tuple[Mask, ClockPosition]:
    """Choose as `in_order`, where time steps far."""
    kept: list[int] = []
    steps: list[tuple[int, int]] = []  # from when, and how many were kept by then
    last_us = at.last_us
    if at.jumped_from_us is not None:
        steps.append((at.jumped_from_us, 0))
    for index, t in enumerate(t_us.tolist()):
        if last_us is not None and t < last_us:
            place = _step_to_undo(t, last_us, steps)
            if place is None:
                continue
            del kept[steps[place][1] :], steps[place:]
        else:
            if not kept:
                steps.clear()  # the chunk before's, which this event confirms
            if last_us is not None and t - last_us > FAR_US:
                steps.append((last_us, len(kept)))
        kept.append(index)
        last_us = t
    mask = np.zeros(len(t_us), np.bool_)
    mask[kept] = True
    if not kept:
        return mask, at
    return mask, ClockPosition(last_us, steps[0][0] if steps else None)


def _step_to_undo(t: int, last_us: int, steps: list[tuple[int, int]]) -> int | None:
    """Return the newest far step that an event comes back from, by its place."""
    if last_us - t <= FAR_US:
        return None
    places = (p for p in reversed(range(len(steps))) if steps[p][0] <= t)
    return next(places, None)


def inside(events: Events, sensor: Sensor) -> Mask:
    """Return which events lie inside a sensor, (n,)."""
    found: Mask = events["x"] < sensor.width
    found &= events["y"] < sensor.height
    found &= events["p"] < sensor.polarities
    return found


def first_fault(
    events: Events, sensor: Sensor, at: ClockPosition
) -> EventsError | None:
    """Return the error that `reject` would raise about a chunk."""
    try:
        check_inside(events, sensor)
        check_clock(events, at)
    except (EventOutsideSensor, UnsortedEvents) as error:
        return error
    return None


@dataclass
class Skipped:
    """What one stream left out.

    Attributes:
        events: How many events.
        first: The first one's fault, in words, with its place in the stream.
    """

    events: int = 0
    first: str | None = None


class Sorter:
    """Puts one stream's slightly unsorted events in order, holding the newest back.

    An event that is later than the bound stays where it came, however the stream is
    cut. Where time comes back from a far step, what waits goes on first.

    Args:
        within_us: By how much an event may be late, in the stream's time, µs; 0 leaves
            events as they are.
    """

    def __init__(self, within_us: int) -> None:
        self._within_us = within_us
        self._newest_us: int | None = None
        self._waiting = np.empty(0, EVENT_DTYPE)
        self._places_us = np.empty(0, np.int64)
        """For each event that waits, the time that it is put in order by."""

    def take(self, events: Events) -> Events:
        """Take the stream's next events; return those that none can precede now."""
        if not self._within_us or not events.size:
            return events
        ready = []
        while events.size:
            newest_us = self._newest_with(events["t"])
            back = newest_us - events["t"] > FAR_US
            stop = int(np.argmax(back)) if back.any() else len(events)
            self._add(events[:stop], newest_us[:stop])
            events = events[stop:]
            if events.size:
                ready.append(self.rest())
                self._newest_us = None
        return np.concatenate([*ready, self._settled()])

    def rest(self) -> Events:
        """Return the events that wait, in order."""
        waiting = self._waiting
        self._waiting, self._places_us = waiting[:0], self._places_us[:0]
        return waiting

    def _newest_with(self, t_us: Int64s) -> Int64s:
        newest_us: Int64s = np.maximum.accumulate(t_us)
        if self._newest_us is not None:
            np.maximum(newest_us, self._newest_us, out=newest_us)
        return newest_us

    def _add(self, events: Events, newest_us: Int64s) -> None:
        if not events.size:
            return
        self._newest_us = int(newest_us[-1])
        late = newest_us - events["t"] > self._within_us
        places_us = np.where(late, newest_us, events["t"])
        places_us = np.concatenate([self._places_us, places_us])
        order = np.argsort(places_us, kind="stable")
        self._waiting = np.concatenate([self._waiting, events])[order]
        self._places_us = places_us[order]

    def _settled(self) -> Events:
        """Return the events that are so old that no earlier one can be in order."""
        assert self._newest_us is not None, "there was an event"
        settled_us = self._newest_us - self._within_us
        count = int(np.searchsorted(self._places_us, settled_us, "right"))
        ready = self._waiting[:count]
        self._waiting = self._waiting[count:].copy()
        self._places_us = self._places_us[count:].copy()
        return ready


class Tolerance:
    """Follows one stream's events: sorts them, and leaves out or rejects invalid ones.

    Args:
        sensor: The bounds of x, y and p.
        invalid: What to do with an event that is outside, or out of order.
        sort_within_us: Events that are late by no more than this are put in order
            before; newer events wait for that long in the stream's time, µs.
    """

    def __init__(
        self, sensor: Sensor, invalid: Invalid = "reject", sort_within_us: int = 0
    ) -> None:
        self._sensor = sensor
        self._skips = invalid == "skip"
        self._sorter = Sorter(sort_within_us)
        self._at = START
        self._taken = 0
        self.skipped = Skipped()

    def take(self, events: Events) -> Events:
        """Take the stream's next events; return those that are ready, in order.

        Raises:
            EventOutsideSensor: An event lies outside, and is not to be skipped.
            UnsortedEvents: Time runs backwards, and that is not to be skipped.
        """
        return self._checked(self._sorter.take(events))

    def rest(self) -> Events:
        """Return the events that wait to be sorted; raises as `take`."""
        return self._checked(self._sorter.rest())

    def _checked(self, events: Events) -> Events:
        if self._skips:
            return self._without_invalid(events)
        check_inside(events, self._sensor)
        self._at = check_clock(events, self._at)
        return events

    def _without_invalid(self, events: Events) -> Events:
        kept, at = keep_valid(events, self._sensor, self._at)
        left_out = len(events) - len(kept)
        if left_out and not self.skipped.events:
            self.skipped.first = self._fault(events)
        self.skipped.events += left_out
        self._taken += len(events)
        self._at = at
        return kept

    def _fault(self, events: Events) -> str:
        fault: Any = first_fault(events, self._sensor, self._at)
        if fault is None:  # a far step that was undone
            return "an event far in the future"
        fault.index += self._taken
        return str(fault)

    def whole(self, events: Events) -> Events:
        """Take a whole recording; return its events, as `take` and `rest` do."""
        taken = self.take(events)
        rest = self.rest()
        return np.concatenate([taken, rest]) if len(rest) else taken


def keep_valid(
    events: Events, sensor: Sensor, at: ClockPosition
) -> tuple[Events, ClockPosition]:
    """Return a chunk's valid events, and where time is after them."""
    within = inside(events, sensor)
    if not within.all():
        events = events[within]
    mask, at = in_order(events["t"], at)
    return events if mask.all() else events[mask], at

"""What is measured of a load: latency from the schedule, lag, what is left out.

A sensor does not wait for a server, so its events count from when they are due, not
from when they could be sent: a server that stalls, or withholds credit, is charged for
everything that waited meanwhile (no "coordinated omission"). An event of a load without
a rate is due when it is sent. No clock here: times come in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple, Self

STEPS_PER_DOUBLING: Final = 64
"""Resolution of a histogram: values within 1.1 % are one."""
LEAST_S: Final = 1e-6


class Histogram:
    """Counts of durations; histograms of several processes can be added up.

    A percentile is at most 1.1 % above the true one; the largest is exact.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.longest_s = 0.0

    def __len__(self) -> int:
        return sum(self._counts.values())

    def add(self, seconds: float, count: int = 1) -> None:
        """Count a duration, s, so many times."""
        place = max(
            0,
            math.ceil(STEPS_PER_DOUBLING * math.log2(max(seconds, LEAST_S) / LEAST_S)),
        )
        self._counts[place] = self._counts.get(place, 0) + count
        self.longest_s = max(self.longest_s, seconds)

    def percentile(self, percent: float) -> float | None:
        """Return the duration, s, that so many percent do not exceed; None if empty."""
        rank = math.ceil(len(self) * percent / 100)
        for place in sorted(self._counts):
            rank -= self._counts[place]
            if rank <= 0:
                most_s = LEAST_S * 2 ** (place / STEPS_PER_DOUBLING)
                return min(most_s, self.longest_s)
        return None

    def merge(self, other: Histogram) -> None:
        """Add another histogram's counts."""
        for place, count in other._counts.items():
            self._counts[place] = self._counts.get(place, 0) + count
        self.longest_s = max(self.longest_s, other.longest_s)

    def to_json(self) -> dict[str, Any]:
        """Return the histogram as JSON values."""
        return {"counts": [*self._counts.items()], "longest_s": self.longest_s}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        histogram = cls()
        histogram._counts = dict(value["counts"])
        histogram.longest_s = value["longest_s"]
        return histogram


@dataclass(frozen=True)
class OpenLoop:
    """A sensor's schedule: a frame is due when its last event happens.

    Attributes:
        start_s: When the sensor begins, s.
        frame_s: How long a frame lasts.
        frames: How many frames the sensor sends.
    """

    start_s: float
    frame_s: float
    frames: int

    def due_s(self, frame: int) -> float:
        """Return when a frame is due, s; the first is frame 0."""
        return self.start_s + (frame + 1) * self.frame_s


def open_loop(
    start_s: float, seconds: float, frame_s: float, place: int = 0, of: int = 1
) -> OpenLoop:
    """Return the schedule of one of several sensors, whose frames take turns."""
    offset_s = frame_s * place / of
    frames = max(1, math.floor((seconds - offset_s) / frame_s + 1e-9))
    return OpenLoop(start_s + offset_s, frame_s, frames)


@dataclass
class Measured:
    """What one run of a load came to; several sessions' are added up.

    Attributes:
        sessions: Sessions that were measured.
        sent_events: Events sent.
        frames: Frames sent.
        scored_events: Events that were acknowledged as consumed.
        results: Results and answers to flushes.
        left_out: Results that did not come, since newer ones took their place.
        dropped: Events that the server dropped.
        refused: Errors that refused a frame.
        unsettled: Sessions that had not scored everything when they were given up.
        late: Ticks whose score had not come by then.
        lost: Sessions that ended with an error, with its sentence.
        elapsed_s: From the start until everything was consumed.
        latency: From when a tick's last event was due to its score.
        from_sent: From when its frame was sent to its score: what of the latency
            did not wait in the client.
        behind: From when a frame was due to when it was sent.
        greatest_lag_s: The oldest that an event became before it was consumed.
        server_lag_s: The largest `ack.lag_ms`; None where the server says none.
        cpu_s: CPU time of the client's processes.
    """

    sessions: int = 0
    sent_events: int = 0
    frames: int = 0
    scored_events: int = 0
    results: int = 0
    left_out: int = 0
    dropped: int = 0
    refused: int = 0
    unsettled: int = 0
    late: int = 0
    lost: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0
    latency: Histogram = field(default_factory=Histogram)
    from_sent: Histogram = field(default_factory=Histogram)
    behind: Histogram = field(default_factory=Histogram)
    greatest_lag_s: float = 0.0
    server_lag_s: float | None = None
    cpu_s: float = 0.0

    @property
    def events_per_s(self) -> float:
        """Events consumed a second, dropped ones not among them."""
        scored = self.scored_events - self.dropped
        return scored / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def results_per_s(self) -> float:
        """Results a second."""
        return self.results / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def complete(self) -> bool:
        """Whether every event was scored: none dropped, refused, late or lost."""
        return not (self.dropped or self.refused or self.late or self.lost)

    @property
    def settled(self) -> bool:
        """Whether nothing was under way at the end."""
        return not (self.unsettled or self.lost)

    def merge(self, other: Measured) -> None:
        """Add what was measured at the same time, or later."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.lost += other.lost
        for name in _HISTOGRAMS:
            getattr(self, name).merge(getattr(other, name))
        self.greatest_lag_s = max(self.greatest_lag_s, other.greatest_lag_s)
        self.elapsed_s = max(self.elapsed_s, other.elapsed_s)
        lags = [
            lag for lag in (self.server_lag_s, other.server_lag_s) if lag is not None
        ]
        self.server_lag_s = max(lags, default=None)

    def follow(self, other: Measured) -> None:
        """Add what the same sessions did in a later run."""
        elapsed_s, sessions = self.elapsed_s + other.elapsed_s, other.sessions
        self.merge(other)
        self.elapsed_s, self.sessions = elapsed_s, sessions

    def to_json(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {
            item.name: getattr(self, item.name)
            if item.name not in _HISTOGRAMS
            else getattr(self, item.name).to_json()
            for item in fields(self)
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        read = {name: Histogram.from_json(value[name]) for name in _HISTOGRAMS}
        return cls(**{**value, **read})

    def summary(self) -> dict[str, Any]:
        """Return the numbers that a report shows, times in ms."""
        shown = {name: getattr(self, name) for name in (*_COUNTS, "lost", "elapsed_s")}
        percentiles = {
            f"{name}_p{percent:g}_ms": _ms(getattr(self, name).percentile(percent))
            for name in _HISTOGRAMS
            for percent in (50, 99, 99.9)
        }
        return {
            **shown,
            "events_per_s": self.events_per_s,
            "results_per_s": self.results_per_s,
            **percentiles,
            "greatest_lag_ms": _ms(self.greatest_lag_s),
            "server_lag_ms": _ms(self.server_lag_s),
        }


_HISTOGRAMS: Final = ("latency", "from_sent", "behind")
_COUNTS: Final = tuple(
    item.name for item in fields(Measured) if item.type == "int" or item.name == "cpu_s"
)


def added(parts: Iterable[Measured]) -> Measured:
    """Return the sum of what was measured at the same time."""
    total = Measured()
    for part in parts:
        total.merge(part)
    return total


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


class Cut(NamedTuple):
    """How a session's events are cut into frames and ticks.

    Attributes:
        frame_events: Events a frame.
        tick_events: Events a tick.
        held_back: Events after a tick's last that the server must have before it can
            score the tick: 1 where the model pairs an event with the gap that follows.
        every_tick: Whether one result a tick is expected.
    """

    frame_events: int
    tick_events: int
    held_back: int = 0
    every_tick: bool = True


class Account:
    """One session's frames on their way, during one run.

    Frames and events are counted from the session's beginning; ticks end at every
    multiple of `tick_events`.

    Args:
        measured: What is measured goes here.
        cut: How its events are cut.
        first_frame: Frames that were sent in earlier runs.
        dropped: Events of theirs that were dropped.
    """

    def __init__(
        self,
        measured: Measured,
        cut: Cut,
        first_frame: int = 0,
        dropped: int = 0,
    ) -> None:
        self._measured = measured
        self._frame_events, self._tick_events, self._held_back, self._every_tick = cut
        self._first_frame = first_frame
        self._due_s: list[float] = []
        self._sent_s: list[float] = []
        self._acked = self._before = first_frame * self._frame_events
        self._ticks = self._ticks_in(self._before)
        self._dropped = self._all_dropped = dropped

    def sent(self, due_s: float, now_s: float) -> None:
        """Count the next frame, which was due at a time and is sent now."""
        self._due_s.append(due_s)
        self._sent_s.append(now_s)
        self._measured.frames += 1
        self._measured.sent_events += self._frame_events
        self._measured.behind.add(now_s - due_s)

    def missed(self, due_s: float) -> None:
        """Count the next frame, which was due and could not be sent in time."""
        self._due_s.append(due_s)

    @property
    def complete(self) -> bool:
        """Whether every expected result has come."""
        return not self._every_tick or self._missing <= 0

    @property
    def _missing(self) -> int:
        """Ticks that are neither scored nor dropped."""
        dropped = (self._all_dropped - self._dropped) // self._tick_events
        return self._ticks_in(self._sent) - self._ticks - dropped

    def scored(
        self, events: int, now_s: float, dropped: int = 0, results: int = 1
    ) -> None:
        """Count a result, or several that came at once, each tick's its own.

        A tick without a result of its own counts as scored with the next, unless it
        was dropped; the oldest are.

        Args:
            events: The place of the newest result's newest event, in all that was sent.
            now_s: When it came.
            dropped: How many events before it were dropped, all before the oldest.
            results: How many came.
        """
        ticks = events // self._tick_events
        if ticks <= self._ticks:
            return
        first = ticks
        if self._every_tick:
            skipped = max(0, dropped - self._dropped) // self._tick_events
            first = min(ticks, self._ticks + 1 + skipped)
        self._dropped = max(self._dropped, dropped)
        self._measured.left_out += max(0, ticks - first + 1 - results)
        self._add(first, ticks, now_s)
        self._ticks = ticks

    def acked(self, events: int, now_s: float, dropped: int = 0) -> None:
        """Count an acknowledgement.

        Args:
            events: The first so many of the session's events are consumed.
            now_s: When it came.
            dropped: How many events were dropped, consumed yet or not.
        """
        self._all_dropped = max(self._all_dropped, dropped)
        if events <= self._acked:
            return
        self._measured.scored_events += events - self._acked
        due_s = self._due_of(self._acked + 1)
        if due_s is not None and not self._every_tick:  # results tell it more exactly
            self._lag(now_s - due_s)
        self._acked = events

    def end(self, now_s: float) -> None:
        """Count what has not come by the end as late, with its age so far."""
        last = self._ticks_in(self._sent)
        if self._every_tick and self._missing > 0:
            late, self._ticks = self._missing, last
            self._measured.late += late
            self._add(last - late + 1, last, now_s)
        elif not self._every_tick and self._acked < self._sent:
            self._measured.late += last - self._ticks_in(self._acked)
            due_s = self._due_of(self._acked + 1)
            self._lag(0.0 if due_s is None else now_s - due_s)

    def _add(self, first: int, last: int, now_s: float) -> None:
        """Count the latency of some ticks, frame by frame."""
        tick = first
        while tick <= last:
            needed = tick * self._tick_events + self._held_back
            frame_end = -(-needed // self._frame_events) * self._frame_events
            after = min(last, (frame_end - self._held_back) // self._tick_events)
            self._add_of_frame(self._place_of(needed), after - tick + 1, now_s)
            tick = after + 1

    def _add_of_frame(self, place: int, ticks: int, now_s: float) -> None:
        """Count the latency of ticks that end in one frame of this run."""
        if not 0 <= place < len(self._due_s):
            return
        latency_s = now_s - self._due_s[place]
        self._measured.latency.add(latency_s, ticks)
        self._lag(latency_s)
        if place < len(self._sent_s):
            self._measured.from_sent.add(now_s - self._sent_s[place], ticks)

    @property
    def _sent(self) -> int:
        """Events that were due by now, since the session's beginning."""
        return self._before + len(self._due_s) * self._frame_events

    def _lag(self, seconds: float) -> None:
        self._measured.greatest_lag_s = max(self._measured.greatest_lag_s, seconds)

    def _ticks_in(self, events: int) -> int:
        return max(0, events - self._held_back) // self._tick_events

    def _due_of(self, event: int) -> float | None:
        """Return when the session's `event`-th event was due; None before this run."""
        place = self._place_of(event)
        return self._due_s[place] if 0 <= place < len(self._due_s) else None

    def _place_of(self, event: int) -> int:
        """Return the place of the session's `event`-th event's frame in this run."""
        return (event - 1) // self._frame_events - self._first_frame

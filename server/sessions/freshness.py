"""How many events of one session may be under way, so that scores stay fresh.

A session with `max_lag_ms` may have under way what is scored within that time at the
rate that the server achieves for this session now. Under `block` that is its credit;
under `drop-oldest` older whole ticks are dropped. Each session is measured by itself:
one that sends too much makes only itself late.

Plain values in, plain values out; the caller has the clock.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from saccade.server.sessions.lead import LEAST_TICKS

FIRST_TICKS: Final = 16
"""Ticks that may be under way before a rate is known."""

MARGIN: Final = 0.5
"""The part of the allowed lag that is planned for, since a rate may fall."""

RATE_S: Final = 0.1
"""Time over which a rate is averaged, s."""

MERGED_S: Final = 0.001
"""Events that come within so long of each other have one time of arrival, s."""


class Arrivals:
    """When the events under way came, the oldest first.

    Memory is bounded by the time that they span: arrivals close together share one.
    """

    def __init__(self) -> None:
        self._runs: deque[tuple[int, float]] = deque()  # events, and when they came
        self.events = 0

    def add(self, events: int, now_s: float) -> None:
        """Add events that come now."""
        if events <= 0:
            return
        self.events += events
        if self._runs and now_s - self._runs[-1][1] < MERGED_S:
            events, now_s = events + self._runs[-1][0], self._runs.pop()[1]
        self._runs.append((events, now_s))

    def oldest_s(self) -> float | None:
        """Return when the oldest event came; None where there is none."""
        return self._runs[0][1] if self._runs else None

    def take(self, events: int) -> float | None:
        """Remove the oldest events; return when the newest of them came."""
        came_s = None
        left = min(events, self.events)
        self.events -= left
        while left:
            count, came_s = self._runs.popleft()
            if count > left:
                self._runs.appendleft((count - left, came_s))
            left -= min(left, count)
        return came_s

    def drop(self, ahead: int, events: int) -> None:
        """Remove events behind the oldest `ahead` of them."""
        before = deque[tuple[int, float]]()
        left = min(ahead, self.events)
        while left:
            count, came_s = self._runs.popleft()
            if count > left:
                self._runs.appendleft((count - left, came_s))
            before.append((min(left, count), came_s))
            left -= min(left, count)
        self.events -= min(ahead, self.events)
        self.take(events)
        self._runs.extendleft(reversed(before))
        self.events += sum(count for count, _ in before)

    def before(self, time_s: float, ahead: int) -> int:
        """Return how many events behind the oldest `ahead` came before a time."""
        found = 0
        for count, came_s in self._runs:
            if came_s >= time_s:
                break
            found += count
        return max(0, found - ahead)


class Freshness:
    """The controller of one session's credit, or of what it drops.

    Args:
        max_lag_s: How old an event may be when it is scored, s; infinity is no bound.
        tick_events: Events in a tick.
        window_events: The most that may be under way.
    """

    def __init__(self, max_lag_s: float, tick_events: int, window_events: int) -> None:
        self.max_lag_s = max_lag_s
        self._tick_events = tick_events
        self._window_events = window_events
        self._arrivals = Arrivals()
        self._moved_s = -math.inf
        self._scored = self._busy_s = 0.0
        self.late = 0
        """Events that were scored later than they may be."""

    @property
    def bounded(self) -> bool:
        """Whether the session's lag has a bound."""
        return self.max_lag_s < math.inf

    @property
    def under_way(self) -> int:
        """Events that came and are neither scored nor dropped."""
        return self._arrivals.events

    @property
    def rate(self) -> float | None:
        """Events that the server scores for this session in a second of work on it.

        None before the first.
        """
        return self._scored / self._busy_s if self._busy_s > 0 else None

    @property
    def window(self) -> int:
        """Events that may be under way now."""
        if not self.bounded:
            return self._window_events
        rate = self.rate
        if rate is None:
            wanted: float = FIRST_TICKS * self._tick_events
        else:
            wanted = MARGIN * self.max_lag_s * rate
        least = LEAST_TICKS * self._tick_events
        return min(max(int(wanted), least), self._window_events)

    def lag_s(self, now_s: float) -> float:
        """Return the age of the oldest event under way, s; 0 where no tick is whole."""
        oldest_s = self._arrivals.oldest_s()
        if oldest_s is None or self._arrivals.events < self._tick_events:
            return 0.0
        return max(0.0, now_s - oldest_s)

    def came(self, events: int, now_s: float) -> None:
        """Count events that come now."""
        self._arrivals.add(events, now_s)

    def scored(self, events: int, now_s: float) -> float:
        """Count the oldest events as scored.

        Returns:
            The time from the arrival of the newest of them, s.
        """
        oldest_s = self._arrivals.oldest_s()
        if oldest_s is None or events <= 0:
            return 0.0
        self._measure(events, max(now_s - max(self._moved_s, oldest_s), 1e-6))
        self._moved_s = now_s
        if self.bounded:
            late = self._arrivals.before(now_s - self.max_lag_s, 0)
            self.late += min(late, events)
        newest_s = self._arrivals.take(events)
        assert newest_s is not None
        return now_s - newest_s

    def overdue(self, ahead: int, now_s: float) -> int:
        """Return how many events to drop, whole ticks, since they would be late.

        The newest whole tick stays: a rate of the past must not keep all out.

        Args:
            ahead: Events that the engine has; the next ones begin a tick.
            now_s: The time.
        """
        rate = self.rate
        if not self.bounded:
            return 0
        # An idle engine takes the next tick at once, whatever its rate was before.
        busy = rate is not None and ahead >= self._tick_events
        scoring_s = (ahead + self._tick_events) / rate if busy and rate else 0.0
        planned_s = MARGIN * self.max_lag_s
        late = self._arrivals.before(now_s + scoring_s - planned_s, ahead)
        older = (self._arrivals.events - ahead) // self._tick_events - 1
        ticks = min(-(-late // self._tick_events), max(older, 0))
        return ticks * self._tick_events

    def dropped(self, ahead: int, events: int) -> None:
        """Count events as dropped, behind those that the engine has."""
        self._arrivals.drop(ahead, events)

    def reset(self) -> None:
        """Forget what is under way; the rate stays."""
        self._arrivals = Arrivals()

    def _measure(self, events: int, busy_s: float) -> None:
        """Add work to the average rate, in which the past fades.

        One stall weighs no more than `RATE_S`, so that the rate recovers from it.
        """
        fading, weight = math.exp(-busy_s / RATE_S), min(1.0, RATE_S / busy_s)
        self._scored = fading * self._scored + weight * events
        self._busy_s = fading * self._busy_s + weight * busy_s

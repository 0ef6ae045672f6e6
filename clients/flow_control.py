"""The client's half of flow control: what may still be sent unacknowledged."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple


class Credit:
    """What is on its way to the server, against the window that it granted.

    The server acknowledges running totals, so a lost or merged
    acknowledgement cannot make the two sides disagree.

    Args:
        window_events: How many events may be unacknowledged.
        window_bytes: How many payload bytes may be unacknowledged.
    """

    def __init__(self, window_events: int, window_bytes: int) -> None:
        self._window_events = window_events
        self._window_bytes = window_bytes
        self._sent_events = 0
        self._sent_bytes = 0
        self._acked_events = 0
        self._acked_bytes = 0

    @property
    def unacked_events(self) -> int:
        """Return how many events the server has not consumed yet."""
        return self._sent_events - self._acked_events

    @property
    def unacked_bytes(self) -> int:
        """Return how many payload bytes the server has not consumed yet."""
        return self._sent_bytes - self._acked_bytes

    def allows(self, events: int, size: int) -> bool:
        """Tell whether a frame fits into the window now.

        A frame larger than the window is let through when nothing else is
        on its way: the server judges it, and nobody waits forever.
        """
        fits = (
            self.unacked_events + events <= self._window_events
            and self.unacked_bytes + size <= self._window_bytes
        )
        return fits or (self.unacked_events <= 0 and self.unacked_bytes <= 0)

    def spend(self, events: int, size: int) -> None:
        """Count a frame as sent."""
        self._sent_events += events
        self._sent_bytes += size

    def rewind(self, events: int, size: int) -> None:
        """Count again from what the server knows after a lost connection."""
        self._sent_events, self._sent_bytes = events, size
        self._acked_events = self._acked_bytes = 0

    def acknowledge(self, events: int, size: int) -> None:
        """Take over the server's running totals; an older one changes nothing."""
        self._acked_events = max(self._acked_events, events)
        self._acked_bytes = max(self._acked_bytes, size)


# >>> merged from clients.latency
# >>> """How long a score took: from sending the event that decided it to receiving it."""

LONGEST_LEDGER: Final = 16_384
"""Frames remembered: with results off (`report=flush`) nothing takes them out."""


class Departure(NamedTuple):
    """One frame on its way."""

    seq: int
    events: int
    sent_at_s: float


class LatencyLedger:
    """Match each result with the frame that completed its tick.

    A result says how many events are scored; the frame that carried the
    last one of them is the one whose journey is timed. A refused frame
    contributed no event, so it leaves the ledger again.
    """

    def __init__(self, longest: int = LONGEST_LEDGER) -> None:
        self._departures: deque[Departure] = deque()
        self._longest = longest
        self._events_before = 0

    def departed(self, seq: int, events: int, now_s: float) -> None:
        """Note a frame as sent."""
        self._departures.append(Departure(seq, events, now_s))
        if len(self._departures) > self._longest:
            self._arrive()

    def refused(self, seq: int) -> int:
        """Forget a frame that the server did not take; return its events."""
        for position, departure in enumerate(self._departures):
            if departure.seq == seq:
                del self._departures[position]
                return departure.events
        return 0

    def scored(self, events: int, now_s: float) -> float | None:
        """Return the latency of a result in ms, or None if it timed no frame.

        Args:
            events: How many events the result says are scored.
            now_s: When it arrived.
        """
        if events <= self._events_before:
            return None
        while self._departures:
            frame = self._departures[0]
            if self._events_before + frame.events >= events:
                return (now_s - frame.sent_at_s) * 1e3
            self._arrive()
        return None

    def restart(self) -> None:
        """Begin again after a reset: the server's counts start at zero too."""
        self._departures.clear()
        self._events_before = 0

    def _arrive(self) -> None:
        self._events_before += self._departures.popleft().events

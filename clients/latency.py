"""How long a score took: from sending the event that decided it to receiving it."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

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

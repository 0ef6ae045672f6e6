"""Flow control of the client: its credit at the server, and the latency of scores."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

LATENCY_FRAMES: Final = 16_384
"""Frames remembered for latencies: with `report=flush` no result removes them."""


class Credit:
    """Events and bytes on their way to the server, against the window it granted.

    The server acknowledges running totals, so a lost or merged acknowledgement
    cannot make the two sides disagree.
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
        """Events that were sent and not acknowledged."""
        return self._sent_events - self._acked_events

    @property
    def unacked_bytes(self) -> int:
        """Payload bytes that were sent and not acknowledged."""
        return self._sent_bytes - self._acked_bytes

    def grant(self, window_events: int) -> None:
        """Take over the window that the server grants from now on."""
        self._window_events = window_events

    def allows(self, events: int, size: int) -> bool:
        """Return whether a frame fits into the window now.

        A frame larger than the whole window is allowed when nothing else is
        unacknowledged: the server accepts or refuses it, and no call waits for ever.
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


class SentFrame(NamedTuple):
    """One frame on its way."""

    seq: int
    events: int
    sent_at_s: float


class LatencyLedger:
    """Latency of each result: from sending the frame that completed its tick.

    A result counts the events that are scored; the frame with the last of them is
    timed. A refused frame contributes no event, and leaves the ledger.
    """

    def __init__(self, longest: int = LATENCY_FRAMES) -> None:
        self._frames: deque[SentFrame] = deque()
        self._longest = longest
        self._events_before = 0

    def add(self, seq: int, events: int, now_s: float) -> None:
        """Add a frame that is sent at `now_s`."""
        self._frames.append(SentFrame(seq, events, now_s))
        if len(self._frames) > self._longest:
            self._remove_oldest()

    def discard(self, seq: int) -> int:
        """Remove a frame that is in no score; return its events, 0 if unknown."""
        for place, frame in enumerate(self._frames):
            if frame.seq == seq:
                del self._frames[place]
                return frame.events
        return 0

    def latency_ms(self, events: int, now_s: float) -> float | None:
        """Return the latency of a result, ms; None if it completes no known frame."""
        if events <= self._events_before:
            return None
        while self._frames:
            frame = self._frames[0]
            if self._events_before + frame.events >= events:
                return (now_s - frame.sent_at_s) * 1e3
            self._remove_oldest()
        return None

    def restart(self) -> None:
        """Begin again after a reset: the server's counts start at zero too."""
        self._frames.clear()
        self._events_before = 0

    def _remove_oldest(self) -> None:
        self._events_before += self._frames.popleft().events

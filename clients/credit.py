"""The client's half of flow control: what may still be sent unacknowledged."""

from __future__ import annotations


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

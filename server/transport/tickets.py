"""Short-lived tickets: what a browser shows in place of a key.

A page cannot put a header on a websocket, and a key in an address would end up in
logs. A ticket may: it opens one connection, within seconds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

TICKET_S: Final = 30.0
MOST_TICKETS: Final = 10_000


class Tickets:
    """The tickets that were given out and not yet used.

    Args:
        clock: Seconds, never backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, tuple[float, str]] = {}

    def issue(self, holder: str) -> str:
        """Give out a ticket; the oldest gives way where there are too many."""
        self._expire()
        if len(self._waiting) >= MOST_TICKETS:
            del self._waiting[next(iter(self._waiting))]
        ticket = secrets.token_urlsafe(32)
        self._waiting[ticket] = (self._clock() + TICKET_S, holder)
        return ticket

    def use(self, ticket: str) -> str | None:
        """Take a ticket back and return its holder; None where it is not good."""
        self._expire()
        _, holder = self._waiting.pop(ticket, (0.0, None))
        return holder

    def _expire(self) -> None:
        now_s = self._clock()
        while self._waiting:
            oldest = next(iter(self._waiting))
            if self._waiting[oldest][0] > now_s:
                break
            del self._waiting[oldest]

"""How much the holder of one key may use: sessions, requests, and what flows in.

No clock of its own and nothing to await.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Protocol

from saccade.model.events.packed import RECORD_BYTES
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.limit_errors import RateExceeded, TooManySessions
from saccade.server.transport.problems import Problem, from_protocol
from saccade.server.transport.token_bucket import TokenBucket

WINDOW_S: Final = 4.0
"""A session is granted no more credit than its key's rate lets in within this."""


@dataclass(frozen=True)
class Allowed:
    """What each key's holder may use at one time, or per second.

    Attributes:
        sessions: Sessions with a client.
        requests: Requests that classify.
        events_per_s: Events, by websocket and by request.
        bytes_per_s: Bytes of messages and of bodies.
    """

    sessions: float = math.inf
    requests: float = math.inf
    events_per_s: float = math.inf
    bytes_per_s: float = math.inf

    def within(self, limits: Limits) -> Limits:
        """Narrow what a session may have under way to what soon gets through."""
        events = int(min(limits.window_events, WINDOW_S * self.events_per_s))
        size = int(min(limits.window_bytes, WINDOW_S * self.bytes_per_s))
        frame = min(limits.max_frame_bytes, RECORD_BYTES * events, size)
        return replace(
            limits, max_frame_bytes=frame, window_events=events, window_bytes=size
        )


class Seat(Protocol):
    """One client's connection, which counts until it ends."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""


class Allowance:
    """One holder's.

    Args:
        allowed: The limits.
        clock: Seconds, never backwards.
    """

    def __init__(self, allowed: Allowed, clock: Callable[[], float]) -> None:
        self._allowed = allowed
        self._clock = clock
        self._events = TokenBucket(allowed.events_per_s, clock())
        self._bytes = TokenBucket(allowed.bytes_per_s, clock())
        self._seats: set[Seat] = set()
        self._requests = 0

    @contextmanager
    def requesting(self) -> Iterator[None]:
        """Count a request for as long as it is answered.

        Raises:
            Problem: The holder has as many as may be, or more came in before than
                the rate lets through.
        """
        limit = self._allowed.requests
        if self._requests >= limit:
            detail = f"{limit:.0f} requests with this key are being answered already"
            raise Problem(429, "too_many_requests", detail, value=int(limit))
        debt_s = self.charge()
        if debt_s > 0:
            raise from_protocol(RateExceeded(debt_s))
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    def take_seat(self, seat: Seat, instead_of: object = None) -> None:
        """Count a session.

        Args:
            seat: Its connection.
            instead_of: A connection that will end thereby.

        Raises:
            TooManySessions: The holder has as many as may be.
        """
        self._seats = {taken for taken in self._seats if not taken.over}
        if len(self._seats - {instead_of}) >= self._allowed.sessions:
            raise TooManySessions(int(self._allowed.sessions))
        self._seats.add(seat)

    def leave_seat(self, seat: Seat) -> None:
        """Count a session no longer."""
        self._seats.discard(seat)

    def charge(self, *, events: int = 0, size: int = 0) -> float:
        """Count what has come in; return for how many seconds to take no more."""
        now_s = self._clock()
        return max(self._events.charge(events, now_s), self._bytes.charge(size, now_s))


class Allowances:
    """Everybody's; those who show no key share one.

    Args:
        allowed: What each may use.
        clock: Seconds, never backwards.
    """

    def __init__(
        self, allowed: Allowed, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._allowed = allowed
        self._clock = clock
        self._of: dict[str, Allowance] = {}

    def of(self, holder: str) -> Allowance:
        """Return a key holder's."""
        if holder not in self._of:
            self._of[holder] = Allowance(self._allowed, self._clock)
        return self._of[holder]

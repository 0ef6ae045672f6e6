"""A rate, as a bucket of tokens that may run into debt.

What has come in is charged for, and whoever was charged waits until the debt of that
moment is paid. So those who share a bucket take turns, nothing is cut, and over time
no more flows than the rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Protocol

from saccade.model.events.encodings.packed import RECORD_BYTES
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.errors import RateExceeded, TooManySessions
from saccade.server.transport.problems import Problem, from_protocol

BURST_S: Final = 1.0
"""What was not used may be used later, but no more than that of so long."""


class TokenBucket:
    """One rate.

    Args:
        per_s: Tokens that flow in every second; infinity is no limit.
        now_s: The time.
    """

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = per_s
        self._level = per_s * BURST_S
        self._now_s = now_s

    def charge(self, amount: int, now_s: float) -> float:
        """Take tokens out; return in how many seconds the debt is paid."""
        if math.isinf(self._per_s):
            return 0.0
        flown_in = (now_s - self._now_s) * self._per_s
        self._now_s = now_s
        self._level = min(self._level + flown_in, self._per_s * BURST_S) - amount
        return max(0.0, -self._level / self._per_s)


# >>> merged from server.transport.meter
# >>> """What one connection takes of its key's allowance, and until when it is not read."""

LONGEST_PAUSE_S: Final = 15.0
"""A client that is not read for longer would take the server for dead: a websocket
library waits 20 s for the answer to its ping."""


class ReadThrottle:
    """One connection's.

    Args:
        allowance: Its key holder's.
        clock: Seconds, never backwards.
    """

    def __init__(
        self, allowance: KeyQuota, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._allowance = allowance
        self._clock = clock
        self._free_s = clock()

    @property
    def pause_s(self) -> float:
        """For how long the connection is not to be read; 0 or less is not at all."""
        return self._free_s - self._clock()

    def charge(self, *, events: int = 0, size: int = 0) -> None:
        """Count what has come in; with nothing, what the key's others left behind.

        Raises:
            RateExceeded: So much that a pause would be too long.
        """
        pause_s = self._allowance.charge(events=events, size=size)
        if pause_s > LONGEST_PAUSE_S:
            raise RateExceeded(pause_s)
        self._free_s = max(self._free_s, self._clock() + pause_s)


# >>> merged from server.transport.allowance
# >>> """How much the holder of one key may use: sessions, requests, and what flows in.
# >>>
# >>> No clock of its own and nothing to await.
# >>> """

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


class SessionQuota(Protocol):
    """One client's connection, which counts until it ends."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""


class KeyQuota:
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
        self._seats: set[SessionQuota] = set()
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

    def take_seat(self, seat: SessionQuota, instead_of: object = None) -> None:
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

    def leave_seat(self, seat: SessionQuota) -> None:
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
        self._of: dict[str, KeyQuota] = {}

    def of(self, holder: str) -> KeyQuota:
        """Return a key holder's."""
        if holder not in self._of:
            self._of[holder] = KeyQuota(self._allowed, self._clock)
        return self._of[holder]

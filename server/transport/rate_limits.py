"""Quotas of one API key: sessions, requests, and rates of events and bytes.

A rate is a token bucket that may run into debt: what has come in is charged for, and
the frame that brought it is acknowledged once the debt of that moment is paid. So
connections of one key take turns, nothing is cut, and over time no more flows in than
the rate. Nothing here waits or reads a clock of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from saccade.model.events.encodings.packed import RECORD_BYTES
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.errors import RateExceeded, TooManySessions
from saccade.server.transport.problems import Problem
from saccade.server.transport.send_queue import SendQueue

BURST_S: Final = 1.0
"""Seconds' worth of an unused rate that may be used later."""

LONGEST_DEBT_S: Final = 40.0
"""Largest debt of one session. A window of frames with one event each, which in bytes
are nine times what their window counts, stays below."""

WINDOW_S: Final = 4.0
"""A session's credit is at most what its key's rate lets in within this time."""


class TokenBucket:
    """One rate: `per_s` tokens flow in every second; infinity is no limit."""

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = per_s
        self._level = per_s * BURST_S
        self._now_s = now_s

    def charge(self, amount: int, now_s: float) -> float:
        """Take tokens out; return the seconds until the debt is paid."""
        if math.isinf(self._per_s):
            return 0.0
        flown_in = (now_s - self._now_s) * self._per_s
        self._now_s = now_s
        self._level = min(self._level + flown_in, self._per_s * BURST_S) - amount
        return max(0.0, -self._level / self._per_s)


@dataclass(frozen=True)
class KeyLimits:
    """The most that one key may use at one time, or per second.

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
        """Narrow a session's window to what the rates let in within `WINDOW_S`."""
        events = int(min(limits.window_events, WINDOW_S * self.events_per_s))
        size = int(min(limits.window_bytes, WINDOW_S * self.bytes_per_s))
        frame = min(limits.max_frame_bytes, RECORD_BYTES * events, size)
        return replace(
            limits, max_frame_bytes=frame, window_events=events, window_bytes=size
        )


class KeyQuota:
    """The use of one key, within its limits; `clock` gives seconds."""

    def __init__(self, limits: KeyLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._events = TokenBucket(limits.events_per_s, clock())
        self._bytes = TokenBucket(limits.bytes_per_s, clock())
        self._sessions: set[SendQueue] = set()
        self._requests = 0

    def throttle(self) -> Throttle:
        """Return the throttle of another connection.

        Raises:
            RateExceeded: The key is in debt beyond what its sessions may cause.
        """
        debt_s = self.charge()
        if debt_s > LONGEST_DEBT_S * max(1, len(self._sessions)):
            raise RateExceeded(debt_s)
        return Throttle(self, self._limits, self._clock)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request until it is answered.

        Raises:
            Problem: The key has as many requests as it may.
            RateExceeded: The key is in debt.
        """
        limit = self._limits.requests
        if self._requests >= limit:
            detail = f"{limit:.0f} requests with this key are being answered already"
            raise Problem(429, "too_many_requests", detail, value=int(limit))
        debt_s = self.charge()
        if debt_s > 0:
            raise RateExceeded(debt_s)
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    def add_session(self, client: SendQueue, replacing: object = None) -> None:
        """Count a session until its connection ends.

        Args:
            client: The session's connection.
            replacing: A connection that ends when the session is resumed.

        Raises:
            TooManySessions: The key has as many sessions as it may.
        """
        self._sessions = {each for each in self._sessions if each.ending is None}
        if len(self._sessions - {replacing}) >= self._limits.sessions:
            raise TooManySessions(int(self._limits.sessions))
        self._sessions.add(client)

    def remove_session(self, client: SendQueue) -> None:
        """Stop counting a session, if it is counted."""
        self._sessions.discard(client)

    def charge(self, *, events: int = 0, size: int = 0) -> float:
        """Count what has come in; return the seconds until the debt is paid."""
        now_s = self._clock()
        return max(self._events.charge(events, now_s), self._bytes.charge(size, now_s))


class KeyQuotas:
    """The quota of each key; connections without a key share one."""

    def __init__(
        self, limits: KeyLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._of: dict[str, KeyQuota] = {}

    def of(self, holder: str) -> KeyQuota:
        """Return the quota of a key by its holder's name."""
        if holder not in self._of:
            self._of[holder] = KeyQuota(self._limits, self._clock)
        return self._of[holder]


class Throttle:
    """How long the credit of one connection is held back, by its key's quota.

    Args:
        quota: The quota that all connections of the key share.
        limits: The key's limits.
        clock: Gives seconds.
    """

    def __init__(
        self, quota: KeyQuota, limits: KeyLimits, clock: Callable[[], float]
    ) -> None:
        self._quota = quota
        self._clock = clock
        self._events = TokenBucket(limits.events_per_s, clock())
        self._bytes = TokenBucket(limits.bytes_per_s, clock())
        self.free_s = clock()
        """The time from which what has come in may be acknowledged, s."""

    @property
    def owed_s(self) -> float:
        """Seconds until the key's debt is paid, as of the newest charge."""
        return self.free_s - self._clock()

    @property
    def holding(self) -> bool:
        """Whether what has come in may not be acknowledged yet."""
        return self.free_s > self._clock()

    def charge(self, *, events: int = 0, size: int = 0) -> None:
        """Count what has come in on this connection.

        Raises:
            RateExceeded: This connection alone is in debt beyond `LONGEST_DEBT_S`,
                which no client that keeps to its credit reaches.
        """
        now_s = self._clock()
        own_s = max(self._events.charge(events, now_s), self._bytes.charge(size, now_s))
        debt_s = self._quota.charge(events=events, size=size)
        if own_s > LONGEST_DEBT_S:
            raise RateExceeded(own_s)
        self.free_s = max(self.free_s, now_s + debt_s)

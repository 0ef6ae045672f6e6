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
from saccade.server.fleet.report import Usage
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


def _ignore() -> None:
    """Do nothing: there is no other process to tell."""


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


_UNUSED: Final = Usage(0, 0, 0, 0)


class KeyQuota:
    """The use of one key, within its limits; `clock` gives seconds."""

    def __init__(self, limits: KeyLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._events = TokenBucket(limits.events_per_s, clock())
        self._bytes = TokenBucket(limits.bytes_per_s, clock())
        self._sessions: set[SendQueue] = set()
        self._requests = 0
        self._spent = [0, 0]
        self._spent_before = [0, 0]
        self.sessions_elsewhere = 0
        self.requests_elsewhere = 0
        self.changed: Callable[[], None] = _ignore
        """Called when the number of sessions or requests has changed."""

    def take_usage(self) -> Usage:
        """Return what this process has used of the key since the last call."""
        (events, size), self._spent = self._spent, [0, 0]
        self._spent_before[0] += events
        self._spent_before[1] += size
        return Usage(events, size, self._open_sessions, self._requests)

    @property
    def usage(self) -> Usage:
        """What this process has used of the key in all."""
        events, size = map(sum, zip(self._spent, self._spent_before, strict=True))
        return Usage(events, size, self._open_sessions, self._requests)

    @property
    def _open_sessions(self) -> int:
        return sum(1 for each in self._sessions if each.ending is None)

    def absorb(self, events: int, size: int) -> None:
        """Count what has come in with the key in another process."""
        now_s = self._clock()
        self._events.charge(events, now_s)
        self._bytes.charge(size, now_s)

    def throttle(self) -> Throttle:
        """Return the throttle of another connection.

        Raises:
            RateExceeded: The key is in debt beyond what its sessions may cause.
        """
        debt_s = self.charge()
        sessions = len(self._sessions) + self.sessions_elsewhere
        if debt_s > LONGEST_DEBT_S * max(1, sessions):
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
        if self._requests + self.requests_elsewhere >= limit:
            detail = f"{limit:.0f} requests with this key are being answered already"
            raise Problem(429, "too_many_requests", detail, value=int(limit))
        debt_s = self.charge()
        if debt_s > 0:
            raise RateExceeded(debt_s)
        self._requests += 1
        self.changed()
        try:
            yield
        finally:
            self._requests -= 1
            self.changed()

    def add_session(self, client: SendQueue, replacing: object = None) -> None:
        """Count a session until its connection ends.

        Args:
            client: The session's connection.
            replacing: A connection that ends when the session is resumed.

        Raises:
            TooManySessions: The key has as many sessions as it may.
        """
        self._sessions = {each for each in self._sessions if each.ending is None}
        counted = len(self._sessions - {replacing}) + self.sessions_elsewhere
        if counted >= self._limits.sessions:
            raise TooManySessions(int(self._limits.sessions))
        self._sessions.add(client)
        self.changed()

    def remove_session(self, client: SendQueue) -> None:
        """Stop counting a session, if it is counted."""
        self._sessions.discard(client)
        self.changed()

    def count(self, events: int, size: int) -> None:
        """Count what has come in, where no rate is limited."""
        self._spent[0] += events
        self._spent[1] += size

    def charge(self, *, events: int = 0, size: int = 0) -> float:
        """Count what has come in; return the seconds until the debt is paid."""
        self.count(events, size)
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
        self._told: dict[str, Usage] = {}
        self._elsewhere: dict[int | str, dict[str, Usage]] = {}
        self.changed: Callable[[], None] = _ignore
        """Called when the number of a key's sessions or requests has changed."""

    def of(self, holder: str) -> KeyQuota:
        """Return the quota of a key by its holder's name."""
        if holder not in self._of:
            self._of[holder] = quota = KeyQuota(self._limits, self._clock)
            quota.changed = lambda: self.changed()
            self._count_elsewhere(holder)
        return self._of[holder]

    def take_usage(self) -> dict[str, Usage]:
        """Return what has changed in this process's use since the last call."""
        usage = {holder: quota.take_usage() for holder, quota in self._of.items()}
        changed = {
            holder: each
            for holder, each in usage.items()
            if each[:2] != (0, 0) or each[2:] != self._told.get(holder, _UNUSED)[2:]
        }
        self._told |= changed
        return changed

    @property
    def usage(self) -> dict[str, Usage]:
        """What this process has used of each key in all."""
        return {holder: quota.usage for holder, quota in self._of.items()}

    def absorb(self, process: int | str, usage: dict[str, Usage]) -> None:
        """Count what another process, told apart by its number or name, has used."""
        self._elsewhere.setdefault(process, {}).update(usage)
        for holder, each in usage.items():
            self.of(holder).absorb(each.events, each.bytes)
            self._count_elsewhere(holder)

    def forget(self, process: int | str) -> None:
        """Count the sessions and requests of a process that has ended no more."""
        for holder in self._elsewhere.pop(process, {}):
            self._count_elsewhere(holder)

    def _count_elsewhere(self, holder: str) -> None:
        quota = self._of[holder]
        used = [each.get(holder, _UNUSED) for each in self._elsewhere.values()]
        quota.sessions_elsewhere = sum(each.sessions for each in used)
        quota.requests_elsewhere = sum(each.requests for each in used)


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
        self._unlimited = math.isinf(min(limits.events_per_s, limits.bytes_per_s))
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
        return not self._unlimited and self.free_s > self._clock()

    def charge(self, *, events: int = 0, size: int = 0) -> None:
        """Count what has come in on this connection.

        Raises:
            RateExceeded: This connection alone is in debt beyond `LONGEST_DEBT_S`,
                which no client that keeps to its credit reaches.
        """
        if self._unlimited:
            self._quota.count(events, size)
            return
        now_s = self._clock()
        own_s = max(self._events.charge(events, now_s), self._bytes.charge(size, now_s))
        debt_s = self._quota.charge(events=events, size=size)
        if own_s > LONGEST_DEBT_S:
            raise RateExceeded(own_s)
        self.free_s = max(self.free_s, now_s + debt_s)

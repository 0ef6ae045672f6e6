"""When to connect again: exponential backoff, and the failures that may pass.

Opening a session and resuming one after a lost connection follow the same rules.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from saccade.clients.errors import (
    ClientError,
    ConnectionLost,
    ServerUnavailable,
    ServerUnreachable,
    StreamError,
)
from saccade.clients.pacing import WALL_CLOCK, Clock
from saccade.server.protocol.errors import (
    NotReady,
    RateExceeded,
    SlotsExhausted,
    TooManySessions,
)

LOG: Final = logging.getLogger("saccade.clients")
TEMPORARY: Final = frozenset({NotReady.code, SlotsExhausted.code, RateExceeded.code})
"""Error codes of a server that is busy for the moment."""
TEMPORARY_RESUMING: Final = TEMPORARY | {TooManySessions.code}
"""The key's sessions may include the one that this client is about to resume.

A new session beyond a key's number is refused at once: the caller must close one.
"""
TEMPORARY_CLOSES: Final = frozenset({1000, 1005, 1006, 1011, 1014})
"""Close codes of an opening that was cut off or failed; all others refuse it."""
MAX_CUT_OFF: Final = 3
"""Attempts that may end without an answer: a server that stops, or the wrong port."""


@dataclass(frozen=True)
class Waiting:
    """One wait before another attempt to connect.

    Attributes:
        cause: Why there is no session, or no connection.
        attempt: The number of the attempt after the wait, from 1 for each loss.
        wait_s: The length of the wait, s.
        left_s: The time after the wait until the client gives up, s.
    """

    cause: ClientError
    attempt: int
    wait_s: float
    left_s: float


def log_waiting(waiting: Waiting) -> None:
    """Log a wait as a warning of the logger `saccade.clients`."""
    LOG.warning("%s; trying again in %.1f s", waiting.cause, waiting.wait_s)


@dataclass(frozen=True)
class Reconnecting:
    """How to open a session on a busy server, and to resume it after a lost connection.

    Attributes:
        first_s: The bound of the first wait, s; doubled with each attempt.
        most_s: The longest wait, s, but for what the server asks for.
        give_up_s: How long to try, s, from the refusal or the loss on; 0: not at all.
        wait_for_server: Whether to wait for a server that is not reachable at the
            very start; otherwise `ServerUnreachable` is raised at once.
        on_wait: Called before each wait, on the thread of the event loop; by default
            the wait is logged.
    """

    first_s: float = 0.1
    most_s: float = 5.0
    give_up_s: float = 120.0
    wait_for_server: bool = False
    on_wait: Callable[[Waiting], None] = log_waiting

    def at_first(self, wait_for_server_s: float | None) -> Reconnecting:
        """Return how to open a session where the first wait has a limit of its own.

        Args:
            wait_for_server_s: How long to wait for a server that does not answer yet,
                s; None changes nothing.
        """
        if wait_for_server_s is None:
            return self
        return replace(self, wait_for_server=True, give_up_s=wait_for_server_s)

    def waits_s(self) -> Iterator[float]:
        """Yield one wait after another, s, each drawn at random below a growing bound.

        The draw keeps the clients of one server from coming back all at once.
        """
        bound_s = self.first_s
        yield random.uniform(0, bound_s)
        while True:
            bound_s = min(2 * bound_s, self.most_s)
            yield random.uniform(bound_s / 2, bound_s)


DEFAULT_RECONNECTING: Final = Reconnecting()
NEVER: Final = Reconnecting(give_up_s=0)
"""Raises every refusal and every loss at once."""


class Attempts:
    """The attempts to open one session, or to resume it after one loss."""

    def __init__(
        self,
        reconnecting: Reconnecting,
        lost: ConnectionLost | None = None,
        clock: Clock = WALL_CLOCK,
    ) -> None:
        self._reconnecting = reconnecting
        self._lost = lost
        self._clock = clock
        self._waits_s = reconnecting.waits_s()
        self._attempt = 0
        self._cut_off = 0
        self._reached = lost is not None or reconnecting.wait_for_server
        self._give_up_at_s: float | None = None

    async def wait(self, failure: ClientError, at_least_s: float = 0.0) -> None:
        """Wait until the next attempt is due, at least for what the server asked for.

        Raises `failure` where it cannot pass; at the end of `give_up_s`, the lost
        connection, or `failure` where there was none.
        """
        if not self._may_pass(failure):
            raise failure
        now_s = self._clock.now_s()
        if self._give_up_at_s is None:
            self._give_up_at_s = now_s + self._reconnecting.give_up_s
        if isinstance(failure, ServerUnavailable):
            at_least_s = max(at_least_s, failure.retry_after_s)
        wait_s = at_least_s + next(self._waits_s)
        left_s = self._give_up_at_s - now_s - wait_s
        if left_s <= 0:
            raise self._lost or failure
        self._attempt += 1
        self._reconnecting.on_wait(Waiting(failure, self._attempt, wait_s, left_s))
        await self._clock.sleep(wait_s)

    def _may_pass(self, failure: ClientError) -> bool:
        """Count a failure, and return whether another attempt may succeed."""
        match failure:
            case StreamError():
                known = TEMPORARY if self._lost is None else TEMPORARY_RESUMING
                passes = failure.code in known
            case ConnectionLost():
                passes = (
                    self._lost is not None or failure.close_code in TEMPORARY_CLOSES
                )
            case ServerUnreachable():
                self._cut_off += failure.cut_off
                return self._reached or 0 < self._cut_off <= MAX_CUT_OFF
            case _:
                passes = isinstance(failure, ServerUnavailable)
        self._reached = self._reached or passes
        return passes

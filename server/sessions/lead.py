"""How many ticks the engine may be given ahead of its scores.

What the engine has can no longer be dropped, so it should have little; but what it
lacks leaves the device idle. The lead therefore grows for as long as its ticks come
back within the time that they may take, and is cut once they do not. It is not
computed from the rate, which a lead that is too short would itself hold down.

Plain values in, plain values out; the caller has the clock.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Self

LEAST_TICKS: Final = 2
"""Ticks that are always allowed: the device works on one, the next one waits."""

FIRST_EVENTS: Final = 1024
FIRST_TICKS: Final = 16
"""What a session is allowed before any of its ticks has come back: about a frame of a
sensor's, so that it does not come in pieces, each of which waits for the one before."""

MOST_TICKS: Final = 64
"""More than two batches of the longest bucket, so that the device is never idle."""

ROUNDS: Final = 4
"""Rounds in which a lead doubles that was cut before; until then one round does."""

LEAD: Final = 0.4
"""The part of the allowed lag that ticks may take from the engine's input to scores."""

SETTLE_S: Final = 0.05
"""How long what the engine may have is not looked at, where it has all of it: scores
come sooner, and are a reason to look. Dropping and acknowledging cost by the look."""

DEEPEST_CUT: Final = 0.5
"""What one cut leaves of a lead at least."""


def first_ticks(tick_events: int) -> int:
    """Return the lead to begin with, for ticks of so many events."""
    return min(max(FIRST_EVENTS // tick_events, LEAST_TICKS), FIRST_TICKS)


class Lead:
    """The lead of one session.

    Args:
        allowed_s: How long a tick may take from the engine's input to its score, s.
        ticks: The lead to begin with.
    """

    def __init__(self, allowed_s: float, ticks: int = LEAST_TICKS) -> None:
        self._allowed_s = allowed_s
        self._lead = float(ticks)
        self._rounds = 1
        self._given: deque[tuple[int, float]] = deque()  # ticks in all, and when
        self._scored = 0
        self._cut_until = 0
        self._looked_s = -math.inf

    @classmethod
    def of(cls, max_lag_s: float, tick_events: int) -> Self:
        """Return the lead of a new session.

        Args:
            max_lag_s: How old its events may be when they are scored, s.
            tick_events: Events of its ticks.
        """
        bounded = max_lag_s < math.inf
        first = first_ticks(tick_events) if bounded else MOST_TICKS
        return cls(LEAD * max_lag_s, first)

    @property
    def ticks(self) -> int:
        """Ticks that the engine may be given ahead."""
        return int(self._lead)

    def saturated(self, now_s: float) -> bool:
        """Return whether the engine has all that it may, as of not long ago."""
        given = self._given[-1][0] if self._given else self._scored
        full = given - self._scored >= self.ticks
        return full and now_s - self._looked_s < SETTLE_S

    def given(self, ticks: int, now_s: float) -> None:
        """Note that the engine has been given so many ticks in all by now."""
        self._looked_s = now_s
        if ticks > (self._given[-1][0] if self._given else self._scored):
            self._given.append((ticks, now_s))

    def scored(self, ticks: int, now_s: float) -> None:
        """Note that so many ticks in all are scored by now, and adapt."""
        if ticks <= self._scored or not self._given:
            return
        limiting = self._given[-1][0] - self._scored >= self.ticks
        more, self._scored = ticks - self._scored, ticks
        while len(self._given) > 1 and self._given[0][0] < ticks:
            self._given.popleft()
        last, given_s = self._given[0]
        if last <= ticks:
            self._given.popleft()
        took_s = now_s - given_s
        if took_s > self._allowed_s:
            self._cut(self._allowed_s / took_s)
        elif limiting:
            self._lead = min(self._lead + more / self._rounds, MOST_TICKS)

    def reset(self) -> None:
        """Count ticks from zero again; the lead stays."""
        self._given.clear()
        self._scored = self._cut_until = 0

    def _cut(self, share: float) -> None:
        """Cut the lead, once for all ticks that were given before."""
        if self._scored <= self._cut_until:
            return
        self._rounds = ROUNDS
        self._lead = max(self._lead * max(share, DEEPEST_CUT), LEAST_TICKS)
        self._cut_until = self._given[-1][0] if self._given else self._scored

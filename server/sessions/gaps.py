"""Where events were dropped out of a session's stream, and how many."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple


class Gap(NamedTuple):
    """So many events were dropped after so many ticks had gone on to the engine."""

    ticks: int
    events: int


class Gaps:
    """The gaps of one stream since it was opened or reset, in order.

    Only those ahead of the scores are kept one by one. All lie between two ticks.
    """

    def __init__(self, behind: int = 0, ahead: Iterable[Gap] = ()) -> None:
        self.behind = behind
        """Dropped events before the newest scored one."""
        self._ahead = deque(ahead)

    @property
    def events(self) -> int:
        """All dropped events."""
        return self.behind + sum(gap.events for gap in self._ahead)

    @property
    def ahead(self) -> tuple[Gap, ...]:
        """The gaps that no scored event lies behind."""
        return tuple(self._ahead)

    def add(self, ticks: int, events: int) -> None:
        """Note that events were dropped after so many ticks."""
        if self._ahead and self._ahead[-1].ticks == ticks:
            events += self._ahead.pop().events
        self._ahead.append(Gap(ticks, events))

    def advance(self, ticks: int) -> None:
        """Note that so many ticks are scored."""
        while self._ahead and self._ahead[0].ticks < ticks:
            self.behind += self._ahead.popleft().events

    def waiting(self, ticks: int) -> int:
        """Return how many events lie in gaps behind ticks that are not scored yet."""
        return sum(gap.events for gap in self._ahead if gap.ticks > ticks)

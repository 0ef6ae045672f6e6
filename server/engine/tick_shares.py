"""Which streams have few ticks scored, beside those that most ticks are of.

Plain values in, plain values out; the caller has the clock.
"""

from __future__ import annotations

import math
from typing import Final

RECENT_S: Final = 0.1
"""Time over which a stream's ticks are counted, s: they fade with it."""

TYPICAL_TICKS: Final = 1000
"""Ticks, of whichever streams, over which the typical count is averaged."""

LITTLE: Final = 0.6
"""A stream that has less than this part of the typical count has little."""


class RecentTicks:
    """The ticks of one stream that were scored recently; older ones count less."""

    __slots__ = ("_count", "_counted_s")

    def __init__(self) -> None:
        self._count = 0.0
        self._counted_s = -math.inf

    def at(self, now_s: float) -> float:
        """Return their number."""
        return self._count * math.exp(min(self._counted_s - now_s, 0.0) / RECENT_S)

    def add(self, ticks: int, now_s: float) -> float:
        """Add ticks that are scored now; return the number with them."""
        self._count = self.at(now_s) + ticks
        self._counted_s = now_s
        return self._count


class TickShares:
    """The count of recent ticks that is typical: of a tick's stream, on average."""

    def __init__(self) -> None:
        self._typical = 0.0

    def count(self, stream: RecentTicks, ticks: int, now_s: float) -> None:
        """Count ticks of a stream that are scored now."""
        count = stream.add(ticks, now_s)
        weight = min(ticks / TYPICAL_TICKS, 1.0)
        self._typical += weight * (count - self._typical)

    def has_little(self, stream: RecentTicks, now_s: float) -> bool:
        """Return whether a stream has far fewer ticks than is typical."""
        return stream.at(now_s) < LITTLE * self._typical

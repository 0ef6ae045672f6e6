"""How often a model that failed is brought back before it is given up."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Final

MOST: Final = 3
WITHIN_S: Final = 60.0
"""More failures than that in so short a time have a cause that stays."""


class Recoveries:
    """What was recovered when; no clock of its own."""

    def __init__(self, most: int = MOST, within_s: float = WITHIN_S) -> None:
        self._most = most
        self._within_s = within_s
        self._times_s: defaultdict[str, deque[float]] = defaultdict(deque)

    def allow(self, model: str, now_s: float) -> bool:
        """Tell whether a model may be recovered once more, and count it if so."""
        times_s = self._times_s[model]
        while times_s and times_s[0] <= now_s - self._within_s:
            times_s.popleft()
        if len(times_s) >= self._most:
            return False
        times_s.append(now_s)
        return True

"""How much of a thread's time some work may take, beside its other work.

Plain values in, plain values out; the caller has the clock.
"""

from __future__ import annotations

import math


class TimeShare:
    """A share of a thread's time; what is not used is saved up, for a while.

    Args:
        share: The part of the time that the work may take, at most 1.
        saved_s: Time of work that may be saved up, s.
    """

    def __init__(self, share: float, saved_s: float) -> None:
        self._share = share
        self._saved_s = saved_s
        self._free_s = -math.inf

    def allows(self, now_s: float) -> bool:
        """Return whether the work may go on now."""
        return now_s >= self._free_s

    def took(self, seconds: float, now_s: float) -> None:
        """Count work that took so long, and ended now."""
        least_s = now_s - self._saved_s / self._share
        self._free_s = max(self._free_s, least_s) + seconds / self._share

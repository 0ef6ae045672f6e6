"""A rate, as a bucket of tokens that may run into debt.

What has come in is charged for, and whoever was charged waits until the debt of that
moment is paid. So those who share a bucket take turns, nothing is cut, and over time
no more flows than the rate.
"""

from __future__ import annotations

import math
from typing import Final

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

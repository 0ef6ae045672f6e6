"""The search for a server's capacity: the most sensors that it serves well."""

from __future__ import annotations

from typing import Final

RESOLUTION: Final = 0.05
"""The search ends once the answer is known to one part in 20."""


class Search:
    """Doubles a number until it fails, then halves the interval that is left.

    Args:
        most: The largest number to try.

    Attributes:
        passed: The largest number that passed; 0 before the first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._failed: int | None = None
        self.passed = 0

    @property
    def next(self) -> int | None:
        """The number to try next; None once the answer is known."""
        if self._failed is None:
            wanted = min(max(1, 2 * self.passed), self._most)
            return wanted if wanted > self.passed else None
        apart = self._failed - self.passed
        if apart <= max(1.0, RESOLUTION * self.passed):
            return None
        return self.passed + apart // 2

    @property
    def exhausted(self) -> bool:
        """Whether the largest number passed, so that the capacity may be larger."""
        return self.passed == self._most

    def record(self, number: int, *, passed: bool) -> None:
        """Record whether a number passed."""
        if passed:
            self.passed = max(self.passed, number)
        else:
            self._failed = number

"""The labels of a whole stream, in a bounded number of columns."""

from __future__ import annotations

from typing import Final, NamedTuple

HISTORY_COLUMNS: Final = 64
FIRST_COLUMN_US: Final = 5_000
WIDEST_COLUMN_US: Final = 320_000
"""64 of these show the last 20 s."""


class Moment(NamedTuple):
    """One column of the history: the last result in a stretch of stream time."""

    column: int
    label: str
    confidence: float
    truth: str | None


class History:
    """The results of a stream, thinned to what a strip of columns can show.

    Columns begin narrow, so that a short recording fills the strip; when
    there are too many, pairs are joined, until a column has its widest.
    From then on the oldest leaves.
    """

    def __init__(self, columns: int = HISTORY_COLUMNS) -> None:
        self._most = columns
        self._column_us = FIRST_COLUMN_US
        self.moments: list[Moment] = []

    def note(self, t_us: int, label: str, confidence: float, truth: str | None) -> None:
        """Add a result; a later one in the same column replaces it."""
        moment = Moment(t_us // self._column_us, label, confidence, truth)
        if self.moments and self.moments[-1].column >= moment.column:
            # Time that runs backwards is another stream's, after a reset.
            del self.moments[self._place(moment.column) :]
        self.moments.append(moment)
        while self._span() > self._most and self._column_us < WIDEST_COLUMN_US:
            self._join()
        while self._span() > self._most:
            del self.moments[0]

    def _place(self, column: int) -> int:
        earlier = (i for i, moment in enumerate(self.moments) if moment.column < column)
        return max(earlier, default=-1) + 1

    def _span(self) -> int:
        return self.moments[-1].column - self.moments[0].column + 1

    def _join(self) -> None:
        self._column_us *= 2
        halves = (moment._replace(column=moment.column // 2) for moment in self.moments)
        self.moments = list({moment.column: moment for moment in halves}.values())

"""Making a camera's wrapping clock count on, and its small steps back harmless."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
NEVER_US: Final = int(np.iinfo(np.int64).min)


class Unwrapper:
    """Unwrap a counter of so many bits; one a stream.

    A step of more than half the counter's range is taken for a wrap, forwards
    or (where a small step back crosses zero) backwards.
    """

    def __init__(self, bits: int) -> None:
        self._range = 1 << bits
        self._last: int | None = None
        self._base = 0

    @property
    def newest(self) -> int | None:
        """The newest count without wraps; None before the first."""
        return None if self._last is None else self._base + self._last

    def resume(self, newest: int) -> None:
        """Go on as the unwrapper whose newest count this is."""
        self._last = newest % self._range
        self._base = newest - self._last

    def unwrap(self, counts: npt.NDArray[np.integer]) -> Int64s:
        """Return the counts without wraps, int64, shape (n,)."""
        if not counts.size:
            return np.empty(0, np.int64)
        first = counts[0] if self._last is None else self._last
        steps = np.diff(counts.astype(np.int64), prepend=np.int64(first))
        wraps: Int64s = np.cumsum(steps < -(self._range // 2), dtype=np.int64)
        wraps -= np.cumsum(steps > self._range // 2)
        whole: Int64s = counts + (self._base + wraps * self._range)
        self._last = int(counts[-1])
        self._base += int(wraps[-1]) * self._range
        return whole


def count_on(t_us: Int64s, bits: int, newest_us: int | None) -> Int64s:
    """Return sorted timestamps of a wrapping clock without its wraps.

    It remembers nothing, so that whoever refuses a chunk need not undo it. A clock
    that has gone back by more than an eighth of its range has wrapped; a smaller
    step back is kept, for `checks.check_sorted` to refuse. So a pause may last
    seven eighths of the range; none longer can be told apart from a shorter one.

    Args:
        t_us: The next timestamps, (n,), µs; counted modulo 2^bits.
        bits: The clock wraps after 2^bits µs.
        newest_us: The stream's newest timestamp without wraps; None before any.
    """
    if not t_us.size:
        return t_us
    counts = t_us & np.int64((1 << bits) - 1)
    before_us = int(counts[0]) if newest_us is None else newest_us
    steps = np.diff(counts, prepend=before_us & ((1 << bits) - 1))
    steps[steps < -(1 << bits >> 3)] += 1 << bits
    whole: Int64s = before_us + np.cumsum(steps)
    return whole


class Lifter:
    """Lift timestamps that step back a little to the newest one; one a stream.

    A sensor's readout may stamp an event some µs before the one that it sent
    last. Such an event is in order, its clock is not: it gets the newest
    timestamp so far. A step back beyond `tolerance_us` is something else (a
    clock that was reset, bytes that were lost) and is left for
    `checks.check_sorted` to refuse.
    """

    def __init__(self, tolerance_us: int) -> None:
        self._tolerance_us = tolerance_us
        self._newest_us = NEVER_US

    @property
    def newest_us(self) -> int:
        """The newest timestamp; `NEVER_US` before the first."""
        return self._newest_us

    def resume(self, newest_us: int) -> None:
        """Go on as the lifter whose newest timestamp this is."""
        self._newest_us = newest_us

    def lift(self, t_us: Int64s) -> Int64s:
        """Return the lifted timestamps, shape (n,)."""
        if not t_us.size:
            return t_us
        newest_us = np.maximum.accumulate(t_us)
        np.maximum(newest_us, self._newest_us, out=newest_us)
        self._newest_us = int(newest_us[-1])
        lifted: Int64s = np.where(
            t_us >= newest_us - self._tolerance_us, newest_us, t_us
        )
        return lifted

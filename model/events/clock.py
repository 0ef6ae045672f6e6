"""Timestamps of a camera's clock: wraps and resets undone, small steps back removed."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
NEVER_US: Final = int(np.iinfo(np.int64).min)


def unwrap_sorted(t_us: Int64s, bits: int, newest_us: int | None) -> Int64s:
    """Undo the wraps of a clock whose timestamps are sorted.

    A step back of more than an eighth of the clock's range is a wrap; a smaller
    one is kept, for `check_sorted` to refuse. So a pause may last seven eighths of
    the range; a longer pause cannot be told apart from a shorter one. The function
    has no state, so a refused chunk leaves nothing to undo.

    Args:
        t_us: The next timestamps, (n,), µs; counted modulo 2^bits.
        bits: The clock wraps after 2^bits µs.
        newest_us: The stream's newest timestamp without wraps; None before any.

    Returns:
        The timestamps without wraps, (n,), µs.
    """
    if not t_us.size:
        return t_us
    counts = t_us & np.int64((1 << bits) - 1)
    before_us = int(counts[0]) if newest_us is None else newest_us
    steps = np.diff(counts, prepend=before_us & ((1 << bits) - 1))
    steps[steps < -(1 << bits >> 3)] += 1 << bits
    whole: Int64s = before_us + np.cumsum(steps)
    return whole


class Unwrapper:
    """Undoes the wraps of one stream's counter, which may step back a little.

    A step back of more than half the counter's range is a wrap. So is a step forwards
    of nearly the whole range, where a small step back crosses zero.
    """

    def __init__(self, bits: int, largest_step_back: int | None = None) -> None:
        """Start before the first count.

        Args:
            bits: The counter wraps after 2^bits.
            largest_step_back: That may cross zero; half the range where not given.
        """
        self._range = 1 << bits
        self._most_forwards = self._range - (largest_step_back or self._range // 2)
        self._last: int | None = None
        self._base = 0

    @property
    def newest(self) -> int | None:
        """The newest count without wraps; None before the first."""
        return None if self._last is None else self._base + self._last

    @property
    def wraps(self) -> int:
        """How many wraps were undone."""
        return self._base // self._range

    def resume(self, newest: int) -> None:
        """Continue a stream from its newest count without wraps."""
        self._last = newest % self._range
        self._base = newest - self._last

    def unwrap(self, counts: npt.NDArray[np.integer]) -> Int64s:
        """Return the next counts without wraps, int64, shape (n,)."""
        if not counts.size:
            return np.empty(0, np.int64)
        first = counts[0] if self._last is None else self._last
        steps = np.diff(counts.astype(np.int64), prepend=np.int64(first))
        wraps: Int64s = np.cumsum(steps <= -(self._range // 2), dtype=np.int64)
        wraps -= np.cumsum(steps > self._most_forwards)
        whole: Int64s = counts + (self._base + wraps * self._range)
        self._last = int(counts[-1])
        self._base += int(wraps[-1]) * self._range
        return whole


class ResettableClock:
    """Lets one stream's time go on where its camera's clock began at 0 again.

    The camera announces a reset. It takes effect at the next timestamp that steps back,
    for events from before the reset may still follow its announcement.
    """

    def __init__(self) -> None:
        self._newest_us: int | None = None
        self._offset_us = 0
        self._announced = False

    def reset(self) -> bool:
        """Expect the clock to begin at 0; return whether any event came before."""
        self._announced = self._newest_us is not None
        return self._announced

    def shift(self, t_us: int) -> int:
        """Return what a count of the clock is in the stream's time."""
        return t_us + self._offset_us

    def apply(self, counts: Int64s) -> Int64s:
        """Return the next counts in the stream's time, int64, shape (n,), µs."""
        if not counts.size:
            return counts
        t_us: Int64s = counts + self._offset_us
        if self._announced:
            newest_us = counts[0] if self._newest_us is None else self._newest_us
            before_us = np.concatenate([[newest_us], t_us[:-1]])
            back = np.flatnonzero(t_us < before_us)
            if back.size:
                at = back[0]
                self._offset_us = int(before_us[at])
                t_us[at:] = counts[at:] + self._offset_us
                self._announced = False
        self._newest_us = int(t_us[-1])
        return t_us


class JitterFilter:
    """Raises one stream's timestamps that step back a little to the newest one.

    A sensor's readout may stamp an event some µs before the event that it sent
    last. Such an event is in order, only its timestamp is not: it gets the newest
    timestamp so far. A step back beyond `tolerance_us` has another cause (a clock
    that was reset, bytes that were lost) and is kept, for `check_sorted` to refuse.
    """

    def __init__(self, tolerance_us: int) -> None:
        self._tolerance_us = tolerance_us
        self._newest_us = NEVER_US

    @property
    def newest_us(self) -> int:
        """The newest timestamp; `NEVER_US` before the first."""
        return self._newest_us

    def resume(self, newest_us: int) -> None:
        """Continue a stream from its newest timestamp."""
        self._newest_us = newest_us

    def apply(self, t_us: Int64s) -> Int64s:
        """Return the next timestamps, shape (n,), with small steps back removed."""
        if not t_us.size:
            return t_us
        newest_us = np.maximum.accumulate(t_us)
        np.maximum(newest_us, self._newest_us, out=newest_us)
        self._newest_us = int(newest_us[-1])
        filtered: Int64s = np.where(
            t_us >= newest_us - self._tolerance_us, newest_us, t_us
        )
        return filtered

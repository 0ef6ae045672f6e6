"""One session's events that wait for the device, the open tick included."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from saccade.model.tokens import TokenChunk
from saccade.server.engine.errors import BacklogFull


class Backlog:
    """A bounded first-in-first-out buffer that gives out whole ticks.

    The three arrays grow by doubling up to the capacity and are compacted in
    place, so that a stream of one-event chunks costs no more than one of large ones.
    """

    def __init__(self, tick_events: int, capacity: int) -> None:
        self._tick_events = tick_events
        self._capacity = max(capacity, tick_events)
        self._begin = 0
        self._end = 0
        self._arrays = _allocate(4 * tick_events)

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def ticks(self) -> int:
        """Whole ticks that wait."""
        return len(self) // self._tick_events

    def append(self, chunk: TokenChunk) -> int:
        """Add events and return by how many whole ticks the backlog grew.

        Raises:
            BacklogFull: The events do not fit; nothing was added.
        """
        count = len(chunk.tokens)
        if len(self) + count > self._capacity:
            raise BacklogFull(len(self), count, self._capacity)
        before = self.ticks
        if self._end + count > len(self._arrays.tokens):
            self._make_room(len(self) + count)
        added = slice(self._end, self._end + count)
        self._arrays.tokens[added] = chunk.tokens
        self._arrays.dt_ms[added] = chunk.dt_ms
        self._arrays.t_us[added] = chunk.t_us
        self._end += count
        return self.ticks - before

    def take(
        self, ticks: int, tokens: npt.NDArray[np.int32], dt_ms: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        """Move the oldest ticks into a batch's rows; return each tick's last t_us."""
        count = ticks * self._tick_events
        assert count <= len(self), "the scheduler gave out ticks that do not exist"
        taken = slice(self._begin, self._begin + count)
        tokens[:count] = self._arrays.tokens[taken]
        dt_ms[:count] = self._arrays.dt_ms[taken]
        ends = self._arrays.t_us[taken][self._tick_events - 1 :: self._tick_events]
        self._begin += count
        return ends.copy()

    def copy(self) -> TokenChunk:
        """Return all that waits, the oldest first."""
        kept = slice(self._begin, self._end)
        tokens, dt_ms, t_us = self._arrays
        return TokenChunk(tokens[kept].copy(), dt_ms[kept].copy(), t_us[kept].copy())

    def _make_room(self, needed: int) -> None:
        size = len(self._arrays.tokens)
        while size < 2 * needed:  # half empty, so that moving is rare
            size *= 2
        target = self._arrays if size == len(self._arrays.tokens) else _allocate(size)
        waiting, kept = len(self), slice(self._begin, self._end)
        target.tokens[:waiting] = self._arrays.tokens[kept]
        target.dt_ms[:waiting] = self._arrays.dt_ms[kept]
        target.t_us[:waiting] = self._arrays.t_us[kept]
        self._arrays, self._begin, self._end = target, 0, waiting


def _allocate(size: int) -> TokenChunk:
    return TokenChunk(
        np.empty(size, np.int32), np.empty(size, np.float32), np.empty(size, np.int64)
    )

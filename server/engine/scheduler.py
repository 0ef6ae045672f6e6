"""The scheduler: which slots the next batch moves, and in which bucket.

Plain values in, plain values out. Slots that have whole ticks pending stand in a
queue. A batch is always a prefix of the queue, and a slot that was served and still
has ticks goes to the queue's end. So between two turns of one slot every other slot
that was waiting has had a turn: a sensor that floods cannot starve a hundred slow
ones, and gets all the capacity that they leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

LAUNCH_COST: Final = 2.0
"""Cost of one call besides its rows × ticks, in units of one row's tick."""


class Bucket(NamedTuple):
    """A shape that is compiled: this many rows, this many ticks each."""

    rows: int
    ticks: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.ticks}"


class Batch(NamedTuple):
    """One call's work.

    Attributes:
        bucket: The compiled shape; the work never exceeds it.
        turns: `(slot, ticks)` of each row, at least one tick each.
    """

    bucket: Bucket
    turns: tuple[tuple[int, int], ...]

    @property
    def ticks(self) -> int:
        """Ticks of real work."""
        return sum(ticks for _, ticks in self.turns)


class Scheduler:
    """The queue of slots that have whole ticks pending."""

    def __init__(
        self, buckets: Iterable[Bucket], launch_cost: float = LAUNCH_COST
    ) -> None:
        self._buckets = sorted(set(buckets))
        if not self._buckets or min(min(bucket) for bucket in self._buckets) < 1:
            raise ValueError(
                "a scheduler needs buckets of at least one row and one tick"
            )
        self._launch_cost = launch_cost
        self._most_rows = max(bucket.rows for bucket in self._buckets)
        self._pending: dict[int, int] = {}
        self._ticks = 0

    @property
    def waiting(self) -> int:
        """Slots in the queue."""
        return len(self._pending)

    @property
    def ticks(self) -> int:
        """Ticks in the queue."""
        return self._ticks

    def add(self, slot: int, ticks: int) -> None:
        """Add ticks to a slot; a slot that waits already keeps its place."""
        if ticks > 0:
            self._pending[slot] = self._pending.get(slot, 0) + ticks
            self._ticks += ticks

    def drop(self, slot: int) -> None:
        """Forget a slot's ticks."""
        self._ticks -= self._pending.pop(slot, 0)

    def next_batch(self) -> Batch | None:
        """Take the next batch off the queue, or None when it is empty."""
        if not self._pending:
            return None
        front = list(islice(self._pending.items(), self._most_rows))
        pending = [ticks for _, ticks in front]
        bucket = max(self._buckets, key=lambda bucket: self._worth(bucket, pending))
        turns = tuple(
            (slot, min(ticks, bucket.ticks)) for slot, ticks in front[: bucket.rows]
        )
        for slot, ticks in turns:
            left = self._pending.pop(slot) - ticks
            if left:
                self._pending[slot] = left
        self._ticks -= sum(ticks for _, ticks in turns)
        return Batch(bucket, turns)

    def _worth(self, bucket: Bucket, pending: list[int]) -> tuple[float, int]:
        """Rate a bucket by its real work per cost, then by its real work."""
        work = sum(min(ticks, bucket.ticks) for ticks in pending[: bucket.rows])
        cost = bucket.rows * bucket.ticks + self._launch_cost
        return work / cost, work

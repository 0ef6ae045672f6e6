"""The scheduler: which slots the next batch moves, and in which bucket.

Plain values in, plain values out. Slots that have whole ticks pending stand in a
queue, those that were served the fewest ticks first (start-time fair queueing). A slot
that had none counts as served no less than those whose turn it is, and goes before
them as long as it is served at most one long turn more: what comes now and then is not
behind what always waits. A batch is always a prefix of the queue. So a sensor that asks
for less than its share goes first, whatever others ask for; a sensor that floods gets
all the capacity that they leave; and nobody waits for more than a few turns of another.

What a host does around a call costs by the call, so a call should be long. But who
asks for less than its share would wait for all of it; so where others fill a long call,
those go before it in one of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.server.device_memory import MOST_EVENTS
from saccade.server.engine import host_kernels
from saccade.server.engine.host_kernels import (
    FIRST,
    LAST,
    LAUNCH,
    NONE,
    NOW,
    PADDING,
    ROW,
    SLOTS,
    TICKS,
)

LAUNCH_COST: Final = 2.0
"""Cost of one call besides its rows × ticks, in units of one row's tick, on a CPU."""

ACCELERATOR_LAUNCH_COST: Final = 256.0
"""The same of an accelerator where it was not measured, or not soundly."""

MOST_LAUNCH_COST: Final = 65536.0
"""Where a call takes as long however large it is, the fewest calls are the best."""

ROW_EVENTS: Final = 384
"""What a row costs a host with few cores besides its ticks, as events of a call: the
scores of each session are handled and sent by themselves, on a core that a call uses
as well."""

FEW_THREADS: Final = 2
"""So many threads run one session's ticks as fast as those of many sessions; a host
with more has other cores for the event loop."""

LAUNCHES_WORTH: Final = 20
"""A call with the work of so many launches is long enough that slots which ask for
little go before it, in one of their own, where such a call is a short one."""

LEAST_SIZES: Final = 3
"""Sizes of calls through which a line is fitted, at least."""


class Bucket(NamedTuple):
    """A shape that is compiled: this many rows, this many ticks each."""

    rows: int
    ticks: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.ticks}"


CPU_BUCKETS: Final = tuple(
    Bucket(*shape) for shape in ((1, 1), (1, 16), (1, 64), (8, 1), (8, 4), (64, 1))
)
LONG_TICK: Final = 256
MOST_TIMES: Final = 4
"""Where a tick has fewer events, shapes of several rows also have more ticks, up to so
many times: the largest call, of 64 rows, then has the events of 64 long ticks."""

IN_PLACE_BUCKETS: Final = (Bucket(2, 64), Bucket(16, 16))
"""More of them where a shape takes nothing to prepare: the thread that makes the calls
also waits for Python's lock after each, so that few long ones are done sooner."""

ACCELERATOR_BUCKETS: Final = tuple(
    Bucket(*shape)
    for shape in (
        *((1, 1), (1, 16), (1, 64)),
        *((16, 1), (64, 1), (64, 4), (256, 1), (256, 4), (1024, 1)),
    )
)
"""A call of few events costs an accelerator its launches: so shapes are far apart."""


def buckets_for(
    platform: str, slots: int, tick_events: int, *, in_place: bool = False
) -> tuple[Bucket, ...]:
    """Return the shapes to compile for a model, in order.

    Args:
        platform: JAX's name of the device's kind.
        slots: Sessions in the pool; no shape has more rows.
        tick_events: Events of a tick; no shape has more than `MOST_EVENTS`, unless it
            is one tick of one session.
        in_place: Whether calls run on the thread that makes them, and none is compiled.
    """
    shapes = ACCELERATOR_BUCKETS
    if platform == "cpu":
        times = min(max(LONG_TICK // tick_events, 1), MOST_TIMES)
        longer = [Bucket(rows, times * ticks) for rows, ticks in CPU_BUCKETS]
        shapes = (*CPU_BUCKETS, *(each for each in longer if each.rows > 1))
        if in_place and times == MOST_TIMES:
            shapes = (*shapes, *IN_PLACE_BUCKETS)
    most_ticks = max(MOST_EVENTS // tick_events, 1)
    fitting = set()
    for rows, ticks in shapes:
        few = min(rows, slots, most_ticks)
        fitting.add(Bucket(few, min(ticks, most_ticks // few)))
    return tuple(sorted(fitting))


def row_cost_for(platform: str, threads: int, tick_events: int) -> float:
    """Return what a row costs besides its ticks; see `Scheduler`.

    Args:
        platform: JAX's name of the device's kind.
        threads: Threads that run a call.
        tick_events: Events of a tick.
    """
    few = platform == "cpu" and threads <= FEW_THREADS
    return ROW_EVENTS / tick_events if few else 0.0


def fit_launch_cost(seconds: Mapping[Bucket, float], otherwise: float) -> float:
    """Return a launch's cost in units of one row's tick, from measured calls.

    The least-squares line through (rows × ticks, seconds) has a launch's seconds at 0,
    and a tick's as its slope.

    Args:
        seconds: How long a call of each bucket takes.
        otherwise: Returned where the line makes no sense: it falls, begins below 0, or
            goes through fewer than three sizes.
    """
    work = np.array([rows * ticks for rows, ticks in seconds], np.float64)
    if len(set(work.tolist())) < LEAST_SIZES:
        return otherwise
    terms = np.stack([np.ones_like(work), work], axis=1)
    times = np.array([*seconds.values()], np.float64)
    launch_s, tick_s = np.linalg.lstsq(terms, times)[0].tolist()
    if not (launch_s > 0.0 and tick_s > 0.0):  # a NaN, too
        return otherwise
    return min(float(launch_s / tick_s), MOST_LAUNCH_COST)


class Batch(NamedTuple):
    """One call's work.

    Attributes:
        bucket: The compiled shape; the work never exceeds it.
        slots: The slot of each row, (n,).
        counts: By how many ticks each moves, (n,), at least one.
    """

    bucket: Bucket
    slots: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]

    @property
    def turns(self) -> tuple[tuple[int, int], ...]:
        """`(slot, ticks)` of each row."""
        return tuple(zip(self.slots.tolist(), self.counts.tolist(), strict=True))

    @property
    def ticks(self) -> int:
        """Ticks of real work."""
        return int(self.counts.sum())


class Scheduler:
    """The queue of slots that have whole ticks pending.

    Args:
        buckets: The compiled shapes.
        slots: Slots are numbered below this.
        launch_cost: See `LAUNCH_COST`.
        padding_cost: Cost of a row's tick that a call has and nobody needs, in the
            same units: 0 where the call skips it.
        row_cost: Cost of a row that is used besides its ticks, in the same units.
    """

    def __init__(
        self,
        buckets: Iterable[Bucket],
        slots: int,
        launch_cost: float = LAUNCH_COST,
        padding_cost: float = 1.0,
        row_cost: float = 0.0,
    ) -> None:
        self._buckets = sorted(set(buckets))
        if not self._buckets or min(min(bucket) for bucket in self._buckets) < 1:
            raise ValueError(
                "a scheduler needs buckets of at least one row and one tick"
            )
        self._shapes = np.array(self._buckets, np.int64)
        self._costs = np.array([launch_cost, padding_cost, row_cost])
        assert (LAUNCH, PADDING, ROW) == (0, 1, 2)
        most_rows = max(bucket.rows for bucket in self._buckets)
        self._front = np.empty(most_rows, np.int32)
        self._counts = np.empty(most_rows, np.int32)
        self._marks = np.array([NONE, NONE, 0, 0, 0], np.int64)
        assert (FIRST, LAST, SLOTS, TICKS, NOW) == (0, 1, 2, 3, 4)
        self._waiting = np.zeros(slots, np.int32)
        self._served = np.zeros(slots, np.int64)
        self._keys = np.zeros(slots, np.int64)
        self._alone = NONE
        self._ahead = max(bucket.ticks for bucket in self._buckets)
        links = np.full((2, slots), NONE, np.int32)
        self._queue = (self._marks, self._waiting, links[0], links[1])

    @property
    def launch_cost(self) -> float:
        """Cost of one call besides its work; may be set while nothing waits."""
        return float(self._costs[LAUNCH])

    @launch_cost.setter
    def launch_cost(self, cost: float) -> None:
        self._costs[LAUNCH] = cost

    @property
    def waiting(self) -> int:
        """Slots in the queue."""
        return int(self._marks[SLOTS])

    @property
    def ticks(self) -> int:
        """Ticks in the queue."""
        return int(self._marks[TICKS])

    def ticks_of(self, slot: int) -> int:
        """Return the ticks of one slot."""
        return int(self._waiting[slot])

    def add(self, slot: int, ticks: int) -> None:
        """Add ticks to a slot; a slot that waits already keeps its place."""
        self.add_all(np.array([slot], np.int32), np.array([ticks], np.int32))

    def add_all(
        self, slots: npt.NDArray[np.int32], ticks: npt.NDArray[np.int32]
    ) -> None:
        """Add ticks to slots, one after another."""
        self._add(slots, ticks, self._ahead)

    def drop(self, slot: int) -> None:
        """Forget a slot's ticks, and what it was served: another session comes."""
        slots = np.array([slot], np.int32)
        self._take(slots, self._waiting[slots])
        self._served[slot] = 0

    def next_batch(self) -> Batch | None:
        """Take the next batch off the queue, or None when it is empty."""
        if not self.waiting:
            return None
        slots = self.waiting
        bucket, rows = self._choose(slots)
        work = int(self._counts[:rows].sum())
        if work >= LAUNCHES_WORTH * self.launch_cost:
            owed = self._owed
            if 0 < owed < slots:
                bucket, rows = self._choose(owed)
        batch = Batch(bucket, self._front[:rows].copy(), self._counts[:rows].copy())
        self._move_on(int(batch.slots[0]), alone=slots == 1)
        left = self._take(batch.slots, batch.counts)
        self._served[batch.slots] += batch.counts
        self._add(batch.slots, left, 0)
        return batch

    def _move_on(self, slot: int, *, alone: bool) -> None:
        """Note whose turn it is: of one that stays alone, all that it was served."""
        stays = alone and slot == self._alone
        key = (self._served if stays else self._keys)[slot]
        self._marks[NOW] = max(self._marks[NOW], key)
        self._alone = slot if alone else NONE

    @property
    def _owed(self) -> int:
        """Slots at the front that were served far less than those whose turn it is."""
        marks, _, after, _ = self._queue
        behind = self._ahead // 2
        return int(host_kernels.count_owed(marks, after, self._keys, behind))

    def _choose(self, slots: int) -> tuple[Bucket, int]:
        """Choose a bucket for the first so many slots; return it and the rows used."""
        best = host_kernels.choose_bucket(
            *self._queue[:3],
            self._shapes,
            self._costs,
            slots,
            self._front,
            self._counts,
        )
        bucket = self._buckets[best]
        return bucket, min(slots, bucket.rows)

    def _add(
        self,
        slots: npt.NDArray[np.int32],
        ticks: npt.NDArray[np.int32],
        ahead: int,
    ) -> None:
        shares = self._served, self._keys
        host_kernels.add_ticks(*self._queue, *shares, slots, ticks, ahead)

    def _take(
        self, slots: npt.NDArray[np.int32], counts: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int32]:
        """Take slots off the queue; return what they have left of these ticks."""
        left = np.empty(len(slots), np.int32)
        host_kernels.take_ticks(*self._queue, slots, counts, left)
        return left

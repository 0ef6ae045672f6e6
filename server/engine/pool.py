"""One model's slots on the device, and the events that wait for them on the host.

Only the device thread touches a `Pool`. A pool packs the sessions that the scheduler
chose into a padded batch, launches the compiled call, and later reads the scores back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from saccade.model.tokens import TokenChunk
from saccade.server.engine.compiled import (
    WHOLE_SESSION,
    Executables,
    check_canary,
    compile_all,
)
from saccade.server.engine.errors import BacklogFull
from saccade.server.engine.leases import Lease
from saccade.server.engine.model_registry import PyTree, Servable
from saccade.server.engine.outputs import (
    PendingExport,
    RowState,
    TickScores,
    carry_of,
)
from saccade.server.engine.scheduler import Batch, Bucket, Scheduler
from saccade.server.engine.slots import PackedBatch, make_pool


class Backlog:
    """One session's events that wait for the device, the open tick included.

    A bounded first-in-first-out buffer that gives out whole ticks. Its arrays grow by
    doubling up to the capacity and are compacted in place, so that a stream of
    one-event chunks costs no more than one of large ones.
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
            BacklogFull: The events do not fit; none was added.
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


class InFlight(NamedTuple):
    """A launched batch whose scores have not been read back.

    `restarts` is the pool's count at the launch: the pool's next restart makes the
    batch void.
    """

    model: str
    batch: Batch
    leases: tuple[Lease, ...]
    t_us: tuple[npt.NDArray[np.int64], ...]
    logits: Any
    launched_s: float
    restarts: int


class _Resident(NamedTuple):
    """The session that a slot is leased to."""

    lease: Lease
    backlog: Backlog


class Pool:
    """The rows, the compiled calls, the queue and the resident sessions of one model.

    Args:
        servable: The model.
        slots: Sessions that the pool has rows for.
        buckets: Shapes to compile.
        events: Events that one session may have waiting.
    """

    def __init__(
        self, servable: Servable, slots: int, buckets: tuple[Bucket, ...], events: int
    ) -> None:
        self.model = servable.key
        self.tick_events = servable.tick_events
        self.restarts = 0
        self._servable = servable
        self._slots = slots
        self._buckets = buckets
        self._events = events
        self._scheduler = Scheduler(buckets)
        self._residents: dict[int, _Resident] = {}
        self._rows: PyTree = None
        self._executables: Executables | None = None
        self._fresh: PyTree = None
        self._exports: list[PendingExport] = []

    @property
    def ticks_waiting(self) -> int:
        """Whole ticks that wait; any thread may ask."""
        return self._scheduler.ticks

    def prepare(self, progress: Callable[[str], None]) -> float:
        """Compile everything and verify it with the canary; return the seconds taken.

        Args:
            progress: Called with the name of each part before its compilation.

        Raises:
            CanaryMismatch: A bucket computes wrong scores.
        """
        began_s = time.perf_counter()
        executables, rows = compile_all(
            self._servable, self._slots, self._buckets, progress
        )
        progress("canary")
        self._rows = check_canary(self._servable, executables, rows)
        self._executables = executables
        self._fresh = executables.fresh(WHOLE_SESSION)
        return time.perf_counter() - began_s

    def restart(self) -> None:
        """Make new rows after a failure; the old ones and their sessions are gone.

        Raises:
            CanaryMismatch: A bucket computes wrong scores by now.
        """
        assert not self._residents, "evict_all comes first"
        self.restarts += 1
        self._rows = None  # frees the old rows' memory before the new ones need it
        rows = make_pool(self._fresh, self._slots)
        self._rows = check_canary(self._servable, self._compiled, rows)

    def insert(self, lease: Lease, half_life_ms: float) -> None:
        """Begin a session in its row, whatever was there before."""
        self._place(lease, self._compiled.fresh(np.float32(half_life_ms)))

    def restore(self, lease: Lease, row: RowState) -> None:
        """Continue a session in its row from an exported one.

        Raises:
            RowMismatch: The exported row is not one of this model.
            BacklogFull: More events wait in it than a session may hold.
        """
        self._place(lease, carry_of(self._servable.name, row, self._fresh))
        self.submit(lease, row.waiting)

    def export(self, lease: Lease, done: Callable[[RowState], None]) -> None:
        """Launch the copy of a row to the host; `take_exports` returns it."""
        resident = self._residents.get(lease.slot)
        if resident is not None and resident.lease == lease:
            carry = self._compiled.extract(self._rows, np.int32(lease.slot))
            waiting = resident.backlog.copy()
            self._exports.append(PendingExport(lease, carry, waiting, done))

    def take_exports(self) -> list[PendingExport]:
        """Return the exports that were launched since the last call."""
        exports, self._exports = self._exports, []
        return exports

    def submit(self, lease: Lease, chunk: TokenChunk) -> None:
        """Queue events of a session; without effect if its lease has ended.

        Raises:
            BacklogFull: The session holds more than it may.
        """
        resident = self._residents.get(lease.slot)
        if resident is not None and resident.lease == lease:
            self._scheduler.add(lease.slot, resident.backlog.append(chunk))

    def release(self, lease: Lease) -> None:
        """End a session; the next `insert` overwrites its row."""
        resident = self._residents.get(lease.slot)
        if resident is not None and resident.lease == lease:
            self._scheduler.drop(lease.slot)
            del self._residents[lease.slot]

    def evict_all(self) -> list[Lease]:
        """End every session and return their leases."""
        self._exports.clear()
        leases = [resident.lease for resident in self._residents.values()]
        for lease in leases:
            self.release(lease)
        return leases

    def launch(self) -> InFlight | None:
        """Start the next batch on the device; None when no whole tick waits."""
        batch = self._scheduler.next_batch()
        if batch is None:
            return None
        packed, ends = self._pack(batch)
        leases = tuple(self._residents[slot].lease for slot, _ in batch.turns)
        launched_s = time.perf_counter()
        run = self._compiled.advance[batch.bucket]
        self._rows, logits = run(self._servable.weights, self._rows, packed)
        return InFlight(
            self.model, batch, leases, ends, logits, launched_s, self.restarts
        )

    @property
    def _compiled(self) -> Executables:
        assert self._executables is not None
        return self._executables

    def _place(self, lease: Lease, carry: PyTree) -> None:
        self._scheduler.drop(lease.slot)
        self._residents[lease.slot] = _Resident(
            lease, Backlog(self.tick_events, self._events)
        )
        self._rows = self._compiled.insert(self._rows, np.int32(lease.slot), carry)

    def _pack(self, batch: Batch) -> tuple[PackedBatch, tuple[Any, ...]]:
        rows, ticks = batch.bucket
        # New arrays each time: the device may still be reading the last ones.
        tokens = np.zeros((rows, ticks * self.tick_events), np.int32)
        dt_ms = np.zeros(tokens.shape, np.float32)
        row = np.full(rows, self._slots, np.int32)  # the scratch row
        moves = np.zeros(rows, np.int32)
        ends = []
        for i, (slot, count) in enumerate(batch.turns):
            row[i], moves[i] = slot, count
            backlog = self._residents[slot].backlog
            ends.append(backlog.take(count, tokens[i], dt_ms[i]))
        return PackedBatch(row, tokens, dt_ms, moves), tuple(ends)


def read_scores(flight: InFlight) -> list[TickScores]:
    """Wait for a batch and return its scores, one entry a session."""
    logits = np.asarray(jax.device_get(flight.logits), np.float32)
    turns = zip(flight.leases, flight.t_us, logits, strict=False)
    return [TickScores(lease, rows[: len(ends)], ends) for lease, ends, rows in turns]

"""One model's rows on the device, and the events that wait for them.

Only the device thread touches a `Pool`. It packs what the scheduler chose into a
padded batch, launches the compiled call, and later reads the scores back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from saccade.model.tokens import TokenChunk
from saccade.server.engine.backlog import Backlog
from saccade.server.engine.compiled import (
    WHOLE_SESSION,
    Executables,
    check_canary,
    compile_all,
)
from saccade.server.engine.leases import Lease
from saccade.server.engine.model_registry import PyTree, Servable
from saccade.server.engine.outputs import (
    Exporting,
    RowState,
    TickScores,
    carry_of,
)
from saccade.server.engine.scheduler import Batch, Bucket, Scheduler
from saccade.server.engine.slots import PackedBatch, make_pool


class InFlight(NamedTuple):
    """A launched batch whose scores have not been read back.

    `era` is the pool's when it was launched: a failure ends it, and all its batches.
    """

    model: str
    batch: Batch
    leases: tuple[Lease, ...]
    t_us: tuple[npt.NDArray[np.int64], ...]
    logits: Any
    launched_s: float
    era: int


@dataclass
class Tenant:
    """One session in its row."""

    lease: Lease
    backlog: Backlog


class Pool:
    """The rows, the compiled calls, the queue and the tenants of one model."""

    def __init__(
        self, servable: Servable, slots: int, buckets: tuple[Bucket, ...], events: int
    ) -> None:
        self._servable = servable
        self._slots = slots
        self._buckets = buckets
        self._events = events
        self._scheduler = Scheduler(buckets)
        self._tenants: dict[int, Tenant] = {}
        self._rows: PyTree = None
        self._executables: Executables | None = None
        self._fresh: PyTree = None
        self._exports: list[Exporting] = []
        self.era = 0

    @property
    def tick_events(self) -> int:
        """Events in a tick."""
        return self._servable.tick_events

    @property
    def ticks_waiting(self) -> int:
        """Whole ticks that wait; any thread may ask."""
        return self._scheduler.ticks

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Compile everything and prove it with the canary.

        Raises:
            CanaryMismatch: A bucket computes wrong scores.
        """
        executables, rows = compile_all(
            self._servable, self._slots, self._buckets, progress
        )
        progress("canary")
        self._rows = check_canary(self._servable, executables, rows)
        self._executables = executables
        self._fresh = executables.fresh(WHOLE_SESSION)

    def revive(self) -> None:
        """Make new rows after a failure; the old ones, and who had them, are gone.

        Raises:
            CanaryMismatch: A bucket computes wrong scores by now.
        """
        assert not self._tenants, "they were told"
        self.era += 1
        self._rows = None  # their memory first
        rows = make_pool(self._fresh, self._slots)
        self._rows = check_canary(self._servable, self._compiled, rows)

    def insert(self, lease: Lease, half_life_ms: float) -> None:
        """Begin a session in its row, whatever was there before."""
        self._settle(lease, self._compiled.fresh(np.float32(half_life_ms)))

    def restore(self, lease: Lease, row: RowState) -> None:
        """Go on with a session in its row, where `export` found it.

        Raises:
            RowMismatch: It is no row of this model.
            BacklogFull: More events wait in it than a session may hold.
        """
        self._settle(lease, carry_of(self._servable.name, row, self._fresh))
        self.submit(lease, row.waiting)

    def export(self, lease: Lease, done: Callable[[RowState], None]) -> None:
        """Begin to read a row; `take_exports` gives it out."""
        tenant = self._tenants.get(lease.slot)
        if tenant is not None and tenant.lease == lease:
            carry = self._compiled.extract(self._rows, np.int32(lease.slot))
            waiting = tenant.backlog.copy()
            self._exports.append(Exporting(lease, carry, waiting, done))

    def take_exports(self) -> list[Exporting]:
        """Return the rows whose reading has begun."""
        exports, self._exports = self._exports, []
        return exports

    def submit(self, lease: Lease, chunk: TokenChunk) -> None:
        """Queue a session's events.

        Raises:
            BacklogFull: They exceed what the session may hold.
        """
        tenant = self._tenants.get(lease.slot)
        if tenant is not None and tenant.lease == lease:
            self._scheduler.add(lease.slot, tenant.backlog.append(chunk))

    def release(self, lease: Lease) -> None:
        """End a session; its row waits for the next tenant."""
        tenant = self._tenants.get(lease.slot)
        if tenant is not None and tenant.lease == lease:
            self._scheduler.drop(lease.slot)
            del self._tenants[lease.slot]

    def abandon(self) -> list[Lease]:
        """End every session and return their leases."""
        self._exports.clear()
        leases = [tenant.lease for tenant in self._tenants.values()]
        for lease in leases:
            self.release(lease)
        return leases

    def launch(self) -> InFlight | None:
        """Start the next batch on the device; None when nobody waits."""
        batch = self._scheduler.next_batch()
        if batch is None:
            return None
        packed, ends = self._pack(batch)
        leases = tuple(self._tenants[slot].lease for slot, _ in batch.turns)
        launched_s = time.perf_counter()
        run = self._compiled.advance[batch.bucket]
        self._rows, logits = run(self._servable.weights, self._rows, packed)
        key = self._servable.key
        return InFlight(key, batch, leases, ends, logits, launched_s, self.era)

    @property
    def _compiled(self) -> Executables:
        assert self._executables is not None
        return self._executables

    def _settle(self, lease: Lease, carry: PyTree) -> None:
        self._scheduler.drop(lease.slot)
        backlog = Backlog(self._servable.tick_events, self._events)
        self._tenants[lease.slot] = Tenant(lease, backlog)
        self._rows = self._compiled.insert(self._rows, np.int32(lease.slot), carry)

    def _pack(self, batch: Batch) -> tuple[PackedBatch, tuple[Any, ...]]:
        rows, ticks = batch.bucket
        # New arrays each time: the device may still be reading the last ones.
        tokens = np.zeros((rows, ticks * self._servable.tick_events), np.int32)
        dt_ms = np.zeros(tokens.shape, np.float32)
        row = np.full(rows, self._slots, np.int32)  # the scratch row
        moves = np.zeros(rows, np.int32)
        ends = []
        for i, (slot, count) in enumerate(batch.turns):
            row[i], moves[i] = slot, count
            ends.append(self._tenants[slot].backlog.take(count, tokens[i], dt_ms[i]))
        return PackedBatch(row, tokens, dt_ms, moves), tuple(ends)


def collect(flight: InFlight) -> list[TickScores]:
    """Wait for a batch and read its scores."""
    logits = np.asarray(jax.device_get(flight.logits), np.float32)
    turns = zip(flight.leases, flight.t_us, logits, strict=False)
    return [TickScores(lease, rows[: len(ends)], ends) for lease, ends, rows in turns]

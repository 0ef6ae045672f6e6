"""One model's slots on the device, and the ticks that wait for them.

Only the device thread touches a `Pool`, but for `score_now`. A pool packs the sessions
that the scheduler chose into a padded batch, launches the compiled call, and later
writes the scores into the pages that the events came in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from saccade.model.state_rows import RowLayout, RowLeaves
from saccade.server.cpu_time import cpu_time
from saccade.server.device_memory import MOST_EVENTS
from saccade.server.engine import host_kernels
from saccade.server.engine.commands import Submit
from saccade.server.engine.compiled import (
    EXPORT_ROWS,
    WHOLE_SESSION,
    Executables,
    check_canary,
    compile_all,
    play_canary,
    time_calls,
)
from saccade.server.engine.errors import RowMismatch
from saccade.server.engine.health import CanaryResult
from saccade.server.engine.in_flight import InFlight, Share, pages_of
from saccade.server.engine.leases import Lease
from saccade.server.engine.model_registry import Servable
from saccade.server.engine.outputs import DeviceOutput, ExportedRow, PagesDone
from saccade.server.engine.page_queues import PageQueues
from saccade.server.engine.scheduler import (
    ACCELERATOR_LAUNCH_COST,
    LAUNCH_COST,
    Batch,
    Bucket,
    Scheduler,
    buckets_for,
    fit_launch_cost,
    row_cost_for,
)
from saccade.server.engine.slots import packed_size, padding_rows, unpack
from saccade.server.engine.ticks import TickArena
from saccade.server.logs import about

LOG: Final = logging.getLogger(__name__)
Ints = npt.NDArray[np.int32]
NO_LEASE: Final = -1
"""The generation of a slot that no session holds."""

IN_FLIGHT: Final = 3
"""Batches whose arrays may be in use: one packed, one running, one being read."""


BEHIND_TICKS: Final = 128
"""While so many ticks wait for the device thread, two long calls, other threads may
score a few themselves: with fewer they would take Python's lock from it for nothing."""


class _PendingExports(NamedTuple):
    """Rows whose copy from the device to the host has been launched."""

    ports: list[int]
    leases: list[Lease]
    numbers: Any


class Pool:
    """The rows, the compiled calls, the queues and the resident sessions of one model.

    Args:
        servable: The model.
        slots: Sessions that the pool has rows for.
        buckets: Shapes to compile; None for those that suit the device.

    Attributes:
        canary: Of the last preparation; None before it.
    """

    def __init__(
        self,
        servable: Servable,
        slots: int,
        buckets: tuple[Bucket, ...] | None = None,
    ) -> None:
        device = servable.device
        platform = jax.default_backend() if device is None else device.platform
        self._on_cpu = platform == "cpu"
        if buckets is None:
            in_place = servable.in_place is not None
            buckets = buckets_for(
                platform, slots, servable.tick_events, in_place=in_place
            )
        _warn_of_long_calls(servable, buckets)
        self.model = servable.key
        self.tick_events = servable.tick_events
        self.restarts = 0
        self.canary: CanaryResult | None = None
        self._servable = servable
        self._slots = slots
        self._buckets = buckets
        self._scheduler = Scheduler(
            buckets,
            slots,
            LAUNCH_COST if self._on_cpu else ACCELERATOR_LAUNCH_COST,
            servable.padding_cost,
            row_cost_for(platform, cpu_time().threads, servable.tick_events),
        )
        self._queues = PageQueues(slots)
        self._generations = np.full(slots, NO_LEASE, np.int64)
        self._ports = np.zeros(slots, np.int32)
        self._arenas: dict[int, TickArena] = {}
        self._packed = {
            bucket: [_new_words(bucket, self.tick_events) for _ in range(IN_FLIGHT)]
            for bucket in buckets
        }
        self._rows: Any = None
        self._executables: Executables | None = None
        self._fresh: Any = None
        self._quick: dict[Bucket, Ints] = {}
        self._padding = padding_rows(slots, max(bucket.rows for bucket in buckets))
        self._asked: list[tuple[int, Lease]] = []
        self._exports: list[_PendingExports] = []
        self._dropped: list[tuple[int, PagesDone]] = []

    @property
    def ticks_waiting(self) -> int:
        """Whole ticks that wait; any thread may ask."""
        return self._scheduler.ticks

    @property
    def slots_used(self) -> int:
        """Slots that sessions hold; any thread may ask."""
        return int((self._generations != NO_LEASE).sum())

    def prepare(self, progress: Callable[[str], None]) -> float:
        """Compile everything and verify it with the canary; return the seconds taken.

        Args:
            progress: Called with the name of each part before its compilation.

        Raises:
            CanaryMismatch: A bucket computes wrong scores.
        """
        began_s = time.perf_counter()
        if self._servable.prepare:
            self._servable.prepare(progress)
        executables, rows = compile_all(
            self._servable, self._slots, self._buckets, progress
        )
        progress("canary")
        self._rows, self.canary = play_canary(self._servable, executables, rows)
        LOG.debug(
            "%s: the canary misses its scores by %.1e of the largest, %s",
            self.model,
            self.canary.error,
            self.canary.matmul_precision,
            extra=about("model_prepared", model=self.model, error=self.canary.error),
        )
        if not self._on_cpu:
            self._rows = self._measure(executables, self._rows)
        self._executables = executables
        self._quick = {b: _new_words(b, self.tick_events) for b in executables.quick}
        self._fresh = executables.fresh(WHOLE_SESSION)
        return time.perf_counter() - began_s

    def _measure(self, executables: Executables, rows: Any) -> Any:
        """Set what a launch costs by the canary's calls; return the rows."""
        rows, seconds = time_calls(self._servable, executables, rows)
        cost = fit_launch_cost(seconds, ACCELERATOR_LAUNCH_COST)
        self._scheduler.launch_cost = cost
        times = ", ".join(f"{bucket} {1e3 * s:.2f} ms" for bucket, s in seconds.items())
        LOG.debug(
            "%s: a launch costs %.0f ticks; calls: %s",
            self.model,
            cost,
            times,
            extra=about("model_prepared", model=self.model, launch_ticks=cost),
        )
        return rows

    def restart(self) -> None:
        """Make new rows after a failure; the old ones and their sessions are gone.

        Raises:
            CanaryMismatch: A bucket computes wrong scores by now.
        """
        assert (self._generations == NO_LEASE).all(), "evict_all comes first"
        self.restarts += 1
        self._rows = None  # frees the old rows' memory before the new ones need it
        rows = self._compiled.new_pool(self._fresh, self._slots)
        self._rows = check_canary(self._servable, self._compiled, rows)

    def add_arena(self, port: int, arena: TickArena) -> None:
        """Find the pages of one front end in this arena."""
        self._arenas[port] = arena

    def remove_port(self, port: int) -> None:
        """End all sessions of a front end that is gone, and forget its pages."""
        for slot in np.flatnonzero(self._ports == port).tolist():
            self.release(Lease(self.model, slot, int(self._generations[slot])))
        self._asked = [each for each in self._asked if each[0] != port]
        self._arenas.pop(port, None)

    def insert(self, port: int, lease: Lease, half_life_ms: float) -> None:
        """Begin a front end's session in its row, whatever was there before."""
        self._place(port, lease, self._compiled.fresh(np.float32(half_life_ms)))

    def restore(
        self, port: int, lease: Lease, leaves: Sequence[npt.NDArray[Any]]
    ) -> None:
        """Continue a session in its row from the arrays of an exported one.

        Raises:
            RowMismatch: The exported row is not one of this model.
        """
        self._place(port, lease, self._numbers_of(leaves))

    def export(self, port: int, lease: Lease) -> None:
        """Have a row copied to the host before the next batch moves it."""
        if self._holds(lease):
            self._asked.append((port, lease))

    def begin_exports(self) -> None:
        """Launch the copies that were asked for since the last call."""
        while self._asked:
            asked = self._asked[: EXPORT_ROWS[-1]]
            del self._asked[: len(asked)]
            size = next(rows for rows in EXPORT_ROWS if rows >= len(asked))
            rows = np.full(size, self._slots, np.int32)  # the scratch row
            rows[: len(asked)] = [lease.slot for _, lease in asked]
            numbers = self._compiled.extract[size](self._rows, rows)
            ports, leases = zip(*asked, strict=True)
            self._exports.append(_PendingExports([*ports], [*leases], numbers))

    def take_exports(self) -> list[tuple[int, DeviceOutput]]:
        """Wait for the copies that were launched; return each with its front end."""
        exports, self._exports = self._exports, []
        rows: list[tuple[int, DeviceOutput]] = []
        for ports, leases, numbers in exports:
            host = np.asarray(numbers)
            for row, port, lease in zip(host, ports, leases, strict=False):
                leaves = RowLeaves(self._layout, row.copy())
                rows.append((port, ExportedRow(lease, leaves)))
        return rows

    def submit(self, port: int, submit: Submit) -> None:
        """Queue pages; those of leases that have ended are returned."""
        current = self._generations[submit.slots] == submit.generations
        slots, pages = submit.slots, submit.pages
        if not current.all():
            self._return(port, *(part[~current] for part in submit[1:]))
            slots, pages = slots[current], pages[current]
        self._queues.push(slots, pages)
        self._scheduler.add_all(slots, np.ones(len(slots), np.int32))

    def release(self, lease: Lease) -> None:
        """End a session; the next `insert` overwrites its row."""
        if self._holds(lease):
            self._drop(lease.slot)
            self._generations[lease.slot] = NO_LEASE

    def evict_all(self) -> list[tuple[int, Lease]]:
        """End every session and return each with its front end."""
        self._asked.clear()
        self._exports.clear()
        held = np.flatnonzero(self._generations != NO_LEASE).tolist()
        leases = [Lease(self.model, k, int(self._generations[k])) for k in held]
        for lease in leases:
            self.release(lease)
        return [(int(self._ports[lease.slot]), lease) for lease in leases]

    def take_dropped(self) -> list[tuple[int, PagesDone]]:
        """Return the pages that were dropped since the last call."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def launch(self) -> InFlight | None:
        """Start the next batch on the device; None when no whole tick waits."""
        batch = self._scheduler.next_batch()
        if batch is None:
            return None
        pages = self._queues.pop(batch.slots, batch.counts)
        generations = self._generations[batch.slots]
        where = (self.model, batch, generations, pages, self._shares(batch))
        flight = InFlight(*where, None, time.perf_counter(), self.restarts)
        try:
            words = self._pack(flight)
            run = self._compiled.advance[batch.bucket]
            self._rows, logits = run(self._servable.weights, self._rows, words)
            if not isinstance(logits, np.ndarray):
                logits.copy_to_host_async()
        except Exception:
            self._dropped += pages_of(flight, scored=False)
            raise
        return flight._replace(logits=logits)

    def score_now(
        self, lease: Lease, arena: TickArena, pages: Ints
    ) -> tuple[Batch, npt.NDArray[np.float32]] | None:
        """Run a session's next ticks on the calling thread, if that is sooner done.

        The one call for a front end's thread, which keeps Python's lock during all of
        it. Nothing else moves or reads the row: the front end has all scores of what
        the session submitted under this lease, of one tick at least (the lease is
        entered before the row is), and every export that it asked for.

        Args:
            lease: The session's.
            arena: Holds its pages.
            pages: The ticks, (k,).

        Returns:
            What was run, and the scores, (k, c); None where nothing was.
        """
        calls, count = self._executables, len(pages)
        if calls is None or count > calls.quick_ticks:
            return None
        if self.ticks_waiting < BEHIND_TICKS:
            return None
        # In this order: before a restarted pool has other rows, no lease holds.
        rows = self._rows
        if not self._holds(lease):
            return None
        bucket = Bucket(1, 1 if count == 1 else calls.quick_ticks)
        words, events = self._quick[bucket], count * self.tick_events
        packed, chunk = unpack(words, bucket), arena.events(pages, events)
        packed.rows[0], packed.ticks[0] = lease.slot, count
        packed.tokens[0, :events], packed.dt_ms[0, :events] = chunk.tokens, chunk.dt_ms
        try:
            _, logits = calls.quick[bucket](self._servable.weights, rows, words)
        except MemoryError:  # nothing was moved
            return None
        batch = Batch(bucket, packed.rows.copy(), packed.ticks.copy())
        return batch, logits[0, :count]

    @property
    def _compiled(self) -> Executables:
        assert self._executables is not None
        return self._executables

    @property
    def _layout(self) -> RowLayout:
        return self._compiled.layout

    def _holds(self, lease: Lease) -> bool:
        return bool(self._generations[lease.slot] == lease.generation)

    def _place(self, port: int, lease: Lease, numbers: Any) -> None:
        self.begin_exports()  # of what the row holds now
        self._drop(lease.slot)
        self._generations[lease.slot] = lease.generation
        self._ports[lease.slot] = port
        self._rows = self._compiled.insert(self._rows, np.int32(lease.slot), numbers)

    def _numbers_of(
        self, leaves: Sequence[npt.NDArray[Any]]
    ) -> npt.NDArray[np.float32]:
        if not self._layout.fits(leaves):
            raise RowMismatch(self._servable.name)
        return self._layout.to_row(leaves)

    def _drop(self, slot: int) -> None:
        """Return the pages that wait for a slot."""
        count = self._scheduler.ticks_of(slot)
        if count:
            slots = np.array([slot], np.int32)
            pages = self._queues.pop(slots, np.array([count], np.int32))
            self._scheduler.drop(slot)
            generations = self._generations[slots]
            self._return(int(self._ports[slot]), slots, generations, pages)

    def _return(
        self, port: int, slots: Ints, generations: npt.NDArray[np.int64], pages: Ints
    ) -> None:
        counts = np.ones(len(slots), np.int32)
        done = PagesDone(self.model, slots, generations, counts, pages, scored=False)
        self._dropped.append((port, done))

    def _shares(self, batch: Batch) -> list[Share]:
        """Split a batch's rows into runs of one front end each."""
        ports = self._ports[batch.slots]
        starts = [0, *(np.flatnonzero(np.diff(ports)) + 1).tolist(), len(ports)]
        ends = np.concatenate([[0], np.cumsum(batch.counts)]).tolist()
        shares = []
        for first, after in pairwise(starts):
            port = int(ports[first])
            pages = slice(ends[first], ends[after])
            arena = self._arenas[port]
            shares.append(Share(port, arena, first, after - first, pages))
        return shares

    def _pack(self, flight: InFlight) -> Ints:
        """Pack a batch into an array that no running call reads."""
        batch, pages = flight.batch, flight.pages
        stock = self._packed[batch.bucket]
        words = stock.pop(0)
        stock.append(words)
        packed, used = unpack(words, batch.bucket), len(batch.slots)
        packed.rows[:used] = batch.slots
        packed.rows[used:] = self._padding[: len(packed.rows) - used]
        packed.ticks[:used] = batch.counts
        packed.ticks[used:] = 0
        packed.tokens[used:] = 0
        packed.dt_ms[used:] = 0.0
        for _, arena, first_row, rows, part in flight.shares:
            host_kernels.pack_rows(
                arena.words,
                arena.floats,
                pages[part],
                batch.counts,
                first_row,
                rows,
                self.tick_events,
                packed.tokens,
                packed.dt_ms,
            )
        return words


def _warn_of_long_calls(servable: Servable, buckets: tuple[Bucket, ...]) -> None:
    for bucket in buckets:
        events = bucket.rows * bucket.ticks * servable.tick_events
        if events > MOST_EVENTS and bucket != Bucket(1, 1):
            LOG.warning(
                "%s: a call of bucket %s holds %d events; others wait for all of "
                "them, which is why shapes chosen here hold at most %d",
                servable.key, bucket, events, MOST_EVENTS,
                extra=about("slow_shapes", model=servable.key, events=events),
            )  # fmt: skip


def _new_words(bucket: Bucket, tick_events: int) -> Ints:
    """Return an array for a packed batch, aligned so that JAX need not copy it."""
    size = packed_size(bucket, tick_events)
    raw = np.zeros(size + 16, np.int32)
    begin = -raw.ctypes.data % 64 // 4
    return raw[begin : begin + size]

"""The engine: sessions lease slots of a model's pool; one thread moves all pools."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from saccade.model.tokens import TokenChunk
from saccade.server.engine.device import Device
from saccade.server.engine.errors import AlreadyServed, StillServed, UnknownServable
from saccade.server.engine.health import Health, Status
from saccade.server.engine.leases import Lease, Leases
from saccade.server.engine.model_registry import Servable
from saccade.server.engine.outputs import Deliver, Observer, RowState
from saccade.server.engine.pool import Pool
from saccade.server.engine.scheduler import Bucket

LOG: Final = logging.getLogger(__name__)


class Engine:
    """Several models' pools behind one device thread; see `EngineClient` for its user.

    A model is named by its servable's `key`, so that two versions of one model can
    serve side by side.

    Args:
        servables: The models to begin with.
        slots: Sessions of each model that are on the device at one time.
        buckets: Shapes to compile.
        backlog_events: Events that one session may have waiting.
        observer: Counts.
    """

    def __init__(
        self,
        servables: Sequence[Servable],
        slots: int,
        buckets: tuple[Bucket, ...],
        backlog_events: int,
        observer: Observer,
    ) -> None:
        self._slots = slots
        self._new_pool = partial(
            Pool, slots=slots, buckets=buckets, events=backlog_events
        )
        pools = {one.key: self._new_pool(one) for one in servables}
        self._leases = {key: Leases(key, slots) for key in pools}
        self._observer = observer
        self._status = Status(pools)
        self._device = Device(pools, self._status, observer)

    @property
    def health(self) -> Health:
        """Every model's state now; any thread may ask."""
        return self._status.health.after_step_of(self._device.step_s)

    def slots_used(self, model: str) -> int:
        """Return how many of a model's slots are leased."""
        return self._leases[model].used if model in self._leases else 0

    def tick_events(self, model: str) -> int:
        """Return how many events make a tick of a model.

        Raises:
            UnknownServable: No model has that name.
        """
        if model not in self._device.pools:
            raise UnknownServable(model)
        return self._device.pools[model].tick_events

    def ticks_waiting(self, model: str) -> int:
        """Return how many whole ticks wait in a model's queue."""
        pool = self._device.pools.get(model)
        return pool.ticks_waiting if pool is not None else 0

    def start(self, deliver: Deliver) -> None:
        """Start the device thread; it compiles first.

        Args:
            deliver: Called with the outputs of each batch, on the device thread.
        """
        self._device.start(deliver)

    def load(self, servable: Servable) -> None:
        """Add another model while the others serve; its sessions may then open.

        The model is compiled and verified on the caller's thread, so that the other
        models' events do not wait for it. A refused model leaves the engine as it was.

        Raises:
            CanaryMismatch: A bucket computes wrong scores.
            AlreadyServed: A model has that name.
            NotReady: The engine does not run, or no more.
        """
        key = servable.key
        if key in self._leases:
            raise AlreadyServed(key)
        pool = self._new_pool(servable)
        seconds = pool.prepare(lambda what: LOG.info("loading %r: %s", key, what))
        self._observer.compiled(key, seconds)
        if not self._device.add(pool):
            raise AlreadyServed(key)
        self._leases[key] = Leases(key, self._slots)

    def unload(self, model: str) -> None:
        """Remove a model without sessions, and free its memory.

        The caller makes sure that no other thread opens a session on it meanwhile.

        Raises:
            UnknownServable: No model has that name.
            StillServed: A slot of it is leased.
        """
        if model not in self._leases:
            raise UnknownServable(model)
        if used := self._leases[model].used:
            raise StillServed(model, used)
        del self._leases[model]
        self._device.remove(model)

    def stop(self) -> None:
        """End the device thread and wait for it; what is queued is not scored."""
        self._status.stop()
        self._device.stop()

    def open(self, model: str, half_life_ms: float) -> Lease:
        """Lease a slot to a new session.

        Raises:
            UnknownServable: No model has that name.
            NotReady: The model is not compiled yet, or the engine stops.
            EngineFailed: The model's pool is lost.
            SlotsExhausted: No slot is free.
        """
        lease = self._acquire(model)
        self._device.send(lease, lambda pool: pool.insert(lease, half_life_ms))
        return lease

    def submit(self, lease: Lease, chunk: TokenChunk) -> None:
        """Queue a session's events; they are scored once they make whole ticks.

        Raises:
            StaleLease: The lease has ended.
        """
        self._leases[lease.model].check(lease)
        self._device.send(lease, lambda pool: pool.submit(lease, chunk))

    def reset(self, lease: Lease, half_life_ms: float) -> Lease:
        """Forget all of a session's events.

        Scores of those events that are on their way carry the old lease.

        Raises:
            StaleLease: The lease has ended.
        """
        renewed = self._leases[lease.model].renew(lease)
        self._device.send(renewed, lambda pool: pool.insert(renewed, half_life_ms))
        return renewed

    def export(self, lease: Lease, done: Callable[[RowState], None]) -> None:
        """Request a session's row as it is once every event so far is queued.

        The row leaves as an `ExportedState` that carries `done`, in order with the
        scores: all ticks that are in the row come before it, all others after.

        Raises:
            StaleLease: The lease has ended.
        """
        self._leases[lease.model].check(lease)
        self._device.send(lease, lambda pool: pool.export(lease, done))

    def restore(self, model: str, row: RowState) -> Lease:
        """Lease a slot to a session that continues from a row; raises as `open`."""
        lease = self._acquire(model)
        self._device.send(lease, lambda pool: pool.restore(lease, row))
        return lease

    def release(self, lease: Lease) -> None:
        """Free a slot.

        Raises:
            StaleLease: The lease has ended.
        """
        self._leases[lease.model].release(lease)
        self._device.send(lease, lambda pool: pool.release(lease))

    def _acquire(self, model: str) -> Lease:
        if model not in self._leases:
            raise UnknownServable(model)
        self._status.check(model)
        return self._leases[model].acquire()

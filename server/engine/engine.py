"""The engine: sessions lease slots of a model's pool; one thread moves the pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from saccade.model.tokens import TokenChunk
from saccade.server.engine.device import Device
from saccade.server.engine.errors import AlreadyServed, StillServed, UnknownServable
from saccade.server.engine.health import Health, Status
from saccade.server.engine.leases import Lease, Leases
from saccade.server.engine.model_registry import Servable
from saccade.server.engine.newcomer import Newcomer
from saccade.server.engine.outputs import Deliver, Observer, RowState
from saccade.server.engine.pool import Pool
from saccade.server.engine.scheduler import Bucket


class Engine:
    """Several models' pools behind one device thread.

    A model is named by its servable's `key`, so that two versions of one model can
    serve side by side.
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
        """What the engine says of itself; any thread may ask."""
        return self._status.health.after_silence(self._device.silent_s)

    def slots_used(self, model: str) -> int:
        """Return how many of a model's slots are lent."""
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
            deliver: Takes each batch's outcomes, on the device thread.
        """
        self._device.start(deliver)

    def load(self, servable: Servable) -> None:
        """Take in another model while the others serve; its sessions may then open.

        It is compiled and proven on the caller's thread, so that nobody's events
        wait for it. One that is refused leaves the engine as it was.

        Raises:
            CanaryMismatch: A bucket computes wrong scores.
            AlreadyServed: A model has that name.
            NotReady: The engine does not run, or no more.
        """
        key = servable.key
        if key in self._leases:
            raise AlreadyServed(key)
        newcomer = Newcomer(key, self._new_pool(servable))
        self._observer.compiled(key, newcomer.prove())
        self._device.admit(newcomer)
        newcomer.wait(self._device.alive)
        if newcomer.pool is not self._device.pools.get(key):
            raise AlreadyServed(key)
        self._leases[key] = Leases(key, self._slots)

    def unload(self, model: str) -> None:
        """Let a model go that no session has a slot of, and free its memory.

        Not while another thread may open a session on it.

        Raises:
            UnknownServable: No model has that name.
            StillServed: A slot of it is lent.
        """
        if model not in self._leases:
            raise UnknownServable(model)
        if used := self._leases[model].used:
            raise StillServed(model, used)
        del self._leases[model]
        self._device.dismiss(model)

    def stop(self) -> None:
        """End the device thread and wait for it; what is queued is not scored."""
        self._status.stop()
        self._device.stop()

    def open(self, model: str, half_life_ms: float) -> Lease:
        """Lend a slot to a new session.

        Raises:
            UnknownServable: No model has that name.
            NotReady: It is not compiled yet, or the engine stops.
            EngineFailed: Its pool is lost.
            SlotsExhausted: No slot is free.
        """
        lease = self._lend(model)
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
        """Forget all of a session's events; scores on their way go to the old lease.

        Raises:
            StaleLease: The lease has ended.
        """
        renewed = self._leases[lease.model].renew(lease)
        self._device.send(renewed, lambda pool: pool.insert(renewed, half_life_ms))
        return renewed

    def export(self, lease: Lease, done: Callable[[RowState], None]) -> None:
        """Ask for a session's row as it is once every event so far is queued.

        It leaves as an `Exported` that carries `done`, in order with the scores: all
        ticks that are in the row come before it, all others after.

        Raises:
            StaleLease: The lease has ended.
        """
        self._leases[lease.model].check(lease)
        self._device.send(lease, lambda pool: pool.export(lease, done))

    def restore(self, model: str, row: RowState) -> Lease:
        """Lend a slot to a session that goes on from a row; raises as `open`."""
        lease = self._lend(model)
        self._device.send(lease, lambda pool: pool.restore(lease, row))
        return lease

    def release(self, lease: Lease) -> None:
        """Give a slot back.

        Raises:
            StaleLease: The lease has ended.
        """
        self._leases[lease.model].give_back(lease)
        self._device.send(lease, lambda pool: pool.release(lease))

    def _lend(self, model: str) -> Lease:
        if model not in self._leases:
            raise UnknownServable(model)
        self._status.check(model)
        return self._leases[model].lend()

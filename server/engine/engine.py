"""The engine: models behind one device thread, and the front ends that use them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from saccade.server.engine.commands import Command
from saccade.server.engine.device import Device
from saccade.server.engine.errors import AlreadyServed, UnknownServable
from saccade.server.engine.frontend import Frontend, ModelShape
from saccade.server.engine.health import Health, Status
from saccade.server.engine.model_registry import Servable
from saccade.server.engine.outputs import Deliver, Observer
from saccade.server.engine.pool import Pool
from saccade.server.engine.scheduler import Bucket
from saccade.server.engine.ticks import TickArena

LOG: Final = logging.getLogger(__name__)
OWN_PORT: Final = 0
"""The port of the front end in the engine's own process."""


class Engine:
    """Several models' pools behind one device thread; see `EngineClient` for its user.

    A model is named by its servable's `key`, so that two versions of one model can
    serve side by side.

    Args:
        servables: The models to begin with.
        slots: Sessions of each model that are on the device at one time.
        buckets: Shapes to compile; None for those that suit the device.
        backlog_events: Events that one session may have waiting.
        observer: Counts.

    Attributes:
        frontend: Leases the slots to sessions of this process.
    """

    def __init__(
        self,
        servables: Sequence[Servable],
        slots: int,
        buckets: tuple[Bucket, ...] | None,
        backlog_events: int,
        observer: Observer,
    ) -> None:
        self._new_pool = partial(Pool, slots=slots, buckets=buckets)
        pools = {one.key: self._new_pool(one) for one in servables}
        self._observer = observer
        self._status = Status(pools)
        self._device = Device(pools, self._status, observer)
        shapes = [shape_of(servable) for servable in servables]
        self.frontend = Frontend(self, shapes, range(slots), backlog_events)

    @property
    def device(self) -> Device:
        """The device thread, for front ends in other processes."""
        return self._device

    @property
    def health(self) -> Health:
        """Every model's state now; any thread may ask."""
        return self._status.health.after_step_of(self._device.step_s)

    def slots_used(self, model: str) -> int:
        """Return how many of a model's slots are leased."""
        return self.frontend.slots_used(model)

    def ticks_waiting(self, model: str) -> int:
        """Return how many whole ticks wait in a model's queue."""
        pool = self._device.pools.get(model)
        return pool.ticks_waiting if pool is not None else 0

    def start(self, deliver: Deliver) -> None:
        """Start the device thread; it compiles first.

        Args:
            deliver: Called with the outputs of each step, on the device thread.
        """
        self._device.connect(OWN_PORT, deliver)
        self._device.start()

    def add_arena(self, model: str, arena: TickArena) -> None:
        """Find the pages of a model's ticks in this arena."""
        self._device.add_arena(OWN_PORT, model, arena)

    def send(self, commands: list[Command]) -> None:
        """Run commands, in order, after all that were sent before."""
        self._device.send(OWN_PORT, commands)

    def check(self, model: str) -> None:
        """Raise if a model does not take sessions.

        Raises:
            NotReady: The model is not compiled yet, or the engine stops.
            EngineError: The model is lost, for this reason.
        """
        self._status.check(model)

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
        if key in self._device.pools:
            raise AlreadyServed(key)
        pool = self._new_pool(servable)
        seconds = pool.prepare(lambda what: LOG.info("loading %r: %s", key, what))
        self._observer.compiled(key, seconds)
        if not self._device.add(pool):
            raise AlreadyServed(key)
        self.frontend.add_model(shape_of(servable))

    def unload(self, model: str) -> None:
        """Remove a model without sessions, and free its memory.

        The caller makes sure that no other thread opens a session on it meanwhile.

        Raises:
            UnknownServable: No model has that name.
            StillServed: A slot of it is leased.
        """
        if model not in self._device.pools:
            raise UnknownServable(model)
        self.frontend.remove_model(model)
        self._device.remove(model)

    def stop(self) -> None:
        """End the device thread and wait for it; what is queued is not scored."""
        self._status.stop()
        self._device.stop()


def shape_of(servable: Servable) -> ModelShape:
    """Return what a front end must know of a model."""
    return ModelShape(servable.key, servable.tick_events, servable.classes)

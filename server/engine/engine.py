"""The engine: models behind device threads, and the front ends that use them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import jax
import numpy as np
import numpy.typing as npt

from saccade.server.devices import AUTO
from saccade.server.engine.accelerators import NamedDevice, find_devices
from saccade.server.engine.commands import Command
from saccade.server.engine.device import Device
from saccade.server.engine.device_group import (
    DeviceCounter,
    DeviceGroup,
    Member,
)
from saccade.server.engine.engine_link import ModelShape
from saccade.server.engine.errors import (
    AlreadyServed,
    CanaryMismatch,
    UnknownServable,
)
from saccade.server.engine.frontend import Frontend
from saccade.server.engine.health import Health, Status
from saccade.server.engine.leases import Lease
from saccade.server.engine.model_registry import Servable
from saccade.server.engine.outputs import Deliver, DeviceUse, Observer
from saccade.server.engine.pool import Pool
from saccade.server.engine.scheduler import Bucket
from saccade.server.engine.ticks import TickArena
from saccade.server.logs import about

LOG: Final = logging.getLogger(__name__)
OWN_PORT: Final = 0
"""The port of the front end in the engine's own process."""

UNTUNED: Final[dict[str, Any]] = {"xla_gpu_autotune_level": 0}
"""XLA's options for a GPU that serves: to try kernels out would delay its sessions."""


class Engine:
    """Several models' pools on one or more devices; see `EngineClient` for its user.

    A model is named by its servable's `key`, so that two versions of one model can
    serve side by side. Every device has every model.

    Args:
        servables: The models to begin with.
        slots: Sessions of each model that are on each device at one time.
        buckets: Shapes to compile; None for those that suit the device.
        backlog_events: Events that one session may have waiting.
        observer: Counts; called on the threads of all devices.
        devices: What runs the models; None: JAX's first device.

    Attributes:
        frontend: Leases the slots to sessions of this process.
        devices: The device threads, for front ends in other processes.
    """

    def __init__(
        self,
        servables: Sequence[Servable],
        slots: int,
        buckets: tuple[Bucket, ...] | None,
        backlog_events: int,
        observer: Observer,
        devices: Sequence[NamedDevice] | None = None,
    ) -> None:
        self._new_pool = partial(Pool, slots=slots, buckets=buckets)
        self._named = tuple(devices or find_devices(AUTO))
        self._observer = observer
        compiling = threading.Lock()
        members = [self._member(one, servables, compiling) for one in self._named]
        self.devices = DeviceGroup(members, slots)
        shapes = [shape_of(servable) for servable in servables]
        own = [range(k * slots, (k + 1) * slots) for k in range(len(members))]
        self.frontend = Frontend(self, shapes, own, backlog_events)

    @property
    def health(self) -> Health:
        """Every model's state now; any thread may ask."""
        return self.devices.health

    @property
    def use(self) -> list[DeviceUse]:
        """What each device does; any thread may ask."""
        return [one.use for one in self.devices.members]

    def slots_used(self, model: str) -> int:
        """Return how many of a model's slots are leased."""
        return self.frontend.slots_used(model)

    def ticks_waiting(self, model: str) -> int:
        """Return how many whole ticks wait in a model's queues."""
        return self.devices.ticks_waiting(model)

    def when_lost(self, end: Callable[[], None]) -> None:
        """Have a function called once this process cannot use a device any more.

        Args:
            end: Ends the process; called on a device thread, before the sessions fail.
        """
        self.devices.when_lost(end)

    def start(self, deliver: Deliver) -> None:
        """Start the device threads; they compile first.

        Args:
            deliver: Called with the outputs of each step, on the device's thread.
        """
        self.devices.connect(OWN_PORT, deliver)
        self.devices.start()

    def add_arena(self, model: str, arena: TickArena) -> None:
        """Find the pages of a model's ticks in this arena."""
        self.devices.add_arena(OWN_PORT, model, arena)

    def send(self, commands: list[Command]) -> None:
        """Run commands, each session's in order, after all that were sent before."""
        self.devices.send(OWN_PORT, commands)

    def score_now(
        self, lease: Lease, arena: TickArena, pages: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float32] | None:
        """Score a session's next ticks on this thread; see `EngineLink.score_now`."""
        return self.devices.score_now(lease, arena, pages)

    def check(self, model: str, device: int) -> None:
        """Raise if a model does not take sessions on a device.

        Raises:
            NotReady: The model is not compiled yet, the engine stops, or the device
                hangs.
            EngineError: The model is lost there, for this reason.
        """
        self.devices.members[device].check(model)

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
        if self.devices.serves(key):
            raise AlreadyServed(key)
        pools = [self._prepared(servable, index) for index in range(len(self._named))]
        for one in self.devices.members:
            one.counter.tick_events[key] = servable.tick_events
        self.devices.add(pools)
        self.frontend.add_model(shape_of(servable))

    def unload(self, model: str) -> None:
        """Remove a model without sessions, and free its memory.

        The caller makes sure that no other thread opens a session on it meanwhile.

        Raises:
            UnknownServable: No model has that name.
            StillServed: A slot of it is leased.
        """
        if not self.devices.serves(model):
            raise UnknownServable(model)
        self.frontend.remove_model(model)
        self.devices.remove(model)

    def stop(self) -> None:
        """End the device threads and wait for them; what is queued is not scored."""
        self.devices.stop()

    def _member(
        self,
        named: NamedDevice,
        servables: Sequence[Servable],
        compiling: threading.Lock,
    ) -> Member:
        pools = {
            one.key: self._new_pool(_placed(one, named.device)) for one in servables
        }
        status, counter = Status(pools), DeviceCounter(self._observer)
        counter.tick_events = {one.key: one.tick_events for one in servables}
        device = Device(pools, status, counter, compiling)
        return Member(named.name, device, status, counter)

    def _prepared(self, servable: Servable, index: int) -> Pool:
        """Return a model's pool on a device that serves, compiled and verified."""
        named, key = self._named[index], servable.key
        pool = self._new_pool(_placed(servable, named.device, serving=True))
        try:
            seconds = pool.prepare(partial(_log_progress, key))
        except Exception as error:
            self.devices.members[index].device.lose(error)
            if isinstance(error, CanaryMismatch):
                self._observer.canary_missed(key)
            raise
        self._observer.compiled(key, seconds)
        return pool


def _log_progress(model: str, what: str) -> None:
    facts = about("model_prepared", model=model)
    LOG.debug("%s is prepared: %s", model, what, extra=facts)


def _placed(servable: Servable, device: Any, *, serving: bool = False) -> Servable:
    """Return a model on a device, its weights with it."""
    tuned = not (serving and device.platform == "gpu")
    return servable._replace(
        weights=jax.device_put(servable.weights, device),
        device=device,
        compiler_options=servable.compiler_options if tuned else UNTUNED,
    )


def shape_of(servable: Servable) -> ModelShape:
    """Return what a front end must know of a model."""
    return ModelShape(servable.key, servable.tick_events, servable.classes)

"""Several devices as one: a thread for each, and slots numbered through all of them.

Device k has the slots from k·S on, where S is the slots of one device. Within a device
thread slots count from 0; this module is where one becomes the other. One device needs
no translation and costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.server.engine.commands import Command, Submit
from saccade.server.engine.device import Device
from saccade.server.engine.errors import AlreadyServed, NotReady
from saccade.server.engine.health import HUNG_S, Health, Status, merged_health
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import (
    Deliver,
    DeviceOutput,
    DeviceUse,
    Observer,
    PagesDone,
)
from saccade.server.engine.pool import Pool
from saccade.server.engine.scheduler import Batch
from saccade.server.engine.ticks import TickArena


class DeviceCounter:
    """The observer of one device: counts, and passes on to the engine's observer.

    Args:
        observer: The engine's.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.tick_events: dict[str, int] = {}
        self.batches = self.events = self.failures = 0
        self.batch_s = 0.0
        self._lock = Lock()

    def compiled(self, model: str, seconds: float) -> None:
        """Pass on."""
        self._observer.compiled(model, seconds)

    def canary_missed(self, model: str) -> None:
        """Pass on."""
        self._observer.canary_missed(model)

    def failed(self, model: str) -> None:
        """Count a failure of a model's pool."""
        self.failures += 1
        self._observer.failed(model)

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """Count a batch, of the device's thread or of a front end's."""
        with self._lock:
            self.batches += 1
            self.events += batch.ticks * self.tick_events.get(model, 0)
            self.batch_s += seconds
        self._observer.ran(model, batch, seconds)


class Member(NamedTuple):
    """One device of a group."""

    name: str
    device: Device
    status: Status
    counter: DeviceCounter

    @property
    def health(self) -> Health:
        """Every model's state on the device now."""
        return self.status.health.after_step_of(self.device.step_s)

    def check(self, model: str) -> None:
        """Raise if a model does not take sessions on the device; see `Engine.check`."""
        self.status.check(model)
        if self.device.step_s >= HUNG_S:
            raise NotReady(f"{self.name} does not answer")

    @property
    def use(self) -> DeviceUse:
        """What the device does; any thread may ask."""
        pools = [*self.device.pools.values()]
        count = self.counter
        return DeviceUse(
            self.name,
            count.batches,
            count.events,
            count.batch_s,
            count.failures,
            sum(pool.slots_used for pool in pools),
            sum(pool.ticks_waiting for pool in pools),
            self.device.busy_s,
            self.device.recompiles.count,
        )


class DeviceGroup:
    """The devices of one engine; the interface of one device.

    Args:
        members: The devices.
        slots: Slots of each model on each device.
    """

    def __init__(self, members: Sequence[Member], slots: int) -> None:
        self.members = tuple(members)
        self._slots = slots
        self._first = self.members[0].device

    @property
    def health(self) -> Health:
        """Every model's state on all devices now."""
        return merged_health({one.name: one.health for one in self.members})

    def serves(self, model: str) -> bool:
        """Return whether the devices have a model's pools."""
        return model in self._first.pools

    def ticks_waiting(self, model: str) -> int:
        """Return how many whole ticks of a model wait on all devices."""
        pools = [one.device.pools.get(model) for one in self.members]
        return sum(pool.ticks_waiting for pool in pools if pool is not None)

    def when_lost(self, end: Callable[[], None]) -> None:
        """Have a function called once any device is lost to this process."""
        for one in self.members:
            one.device.on_lost = end

    def start(self) -> None:
        """Start the threads; they compile first."""
        for one in self.members:
            one.device.start()

    def stop(self) -> None:
        """End the threads and wait for them; what is queued is not scored."""
        for one in self.members:
            one.status.stop()
        for one in self.members:
            one.device.stop()

    def connect(self, port: int, deliver: Deliver) -> None:
        """Deliver a front end's outputs to it from now on, from several threads."""
        for index, one in enumerate(self.members):
            first = index * self._slots
            moved = partial(_deliver_moved, deliver, first) if first else deliver
            one.device.connect(port, moved)

    def disconnect(self, port: int) -> None:
        """End all sessions of a front end that is gone."""
        for one in self.members:
            one.device.disconnect(port)

    def add_arena(self, port: int, model: str, arena: TickArena) -> None:
        """Find the pages of a front end's ticks of a model in this arena."""
        for one in self.members:
            one.device.add_arena(port, model, arena)

    def send(self, port: int, commands: list[Command]) -> None:
        """Run a front end's commands, each session's in order."""
        if len(self.members) == 1:
            self._first.send(port, commands)
            return
        parts = split(commands, self._slots, len(self.members))
        for one, part in zip(self.members, parts, strict=True):
            if part:
                one.device.send(port, part)

    def score_now(
        self, lease: Lease, arena: TickArena, pages: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float32] | None:
        """Score a session's next ticks on this thread; see `EngineLink.score_now`."""
        owner, slot = divmod(lease.slot, self._slots)
        pool = self.members[owner].device.pools.get(lease.model)
        if pool is None:
            return None
        began_s = time.perf_counter()
        ran = pool.score_now(lease._replace(slot=slot), arena, pages)
        if ran is None:
            return None
        batch, logits = ran
        seconds = time.perf_counter() - began_s
        self.members[owner].counter.ran(lease.model, batch, seconds)
        return logits

    def add(self, pools: Sequence[Pool]) -> None:
        """Add a model's prepared pools, one a device.

        Raises:
            AlreadyServed: The model has pools.
            NotReady: A thread does not run, and never will; nothing is added.
        """
        added: list[Member] = []
        try:
            for one, pool in zip(self.members, pools, strict=True):
                if not one.device.add(pool):
                    raise AlreadyServed(pool.model)
                added.append(one)
        except Exception:
            for one in added:
                one.device.remove(pools[0].model)
            raise

    def remove(self, model: str) -> None:
        """Remove a model's pools, after all that was sent before."""
        for one in self.members:
            one.device.remove(model)


def split(commands: list[Command], slots: int, devices: int) -> list[list[Command]]:
    """Return each device's part of some commands, with slots as the device counts."""
    parts: list[list[Command]] = [[] for _ in range(devices)]
    for command in commands:
        if isinstance(command, Submit):
            owners = command.slots // slots
            for owner in np.unique(owners).tolist():
                mine = owners == owner
                named = command.slots[mine] - np.int32(owner * slots)
                rest = command.generations[mine], command.pages[mine]
                parts[owner].append(Submit(command.model, named, *rest))
        else:
            owner, slot = divmod(command.lease.slot, slots)
            lease = command.lease._replace(slot=slot)
            parts[owner].append(command._replace(lease=lease))
    return parts


def _deliver_moved(deliver: Deliver, first: int, outputs: list[DeviceOutput]) -> None:
    deliver([_moved(output, first) for output in outputs])


def _moved(output: DeviceOutput, first: int) -> DeviceOutput:
    """Return an output with its slots as the front ends count."""
    if isinstance(output, PagesDone):
        return output._replace(slots=output.slots + np.int32(first))
    lease: Lease = output.lease
    return output._replace(lease=lease._replace(slot=lease.slot + first))

"""The engine: one thread owns the device; everybody else sends it commands.

A turn of the thread takes the commands that wait, launches the next batch, and only
then reads back the scores of the batch before, so that the device computes while
the host hands results on. Nobody waits for the engine: scores leave by callback.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeAlias

from model.tokens import TokenChunk
from server.engine.errors import (
    AlreadyServed,
    EngineError,
    EngineFailed,
    NotReady,
    UnknownServable,
)
from server.engine.health import Health, Status
from server.engine.leases import Lease, Leases
from server.engine.newcomer import Newcomer
from server.engine.pool import InFlight, Pool, Scored, collect
from server.engine.rows import Exported, RowState, collect_row
from server.engine.scheduler import Batch, Bucket
from server.engine.servable import Servable

LOG: Final = logging.getLogger(__name__)


class Failed(NamedTuple):
    """A session that the engine can serve no more."""

    lease: Lease
    error: EngineError


Outcome: TypeAlias = Scored | Failed | Exported


class Observer(Protocol):
    """Who wants to know how the device is used; called on the device thread."""

    def compiled(self, model: str, seconds: float) -> None:
        """A model's buckets were compiled and proven."""

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """A batch ran; from its launch to its scores it took `seconds`."""


class _Command(NamedTuple):
    """Something for the device thread to do, and for whom."""

    lease: Lease
    run: Callable[[], None]


class Engine:
    """Several models' pools behind one device thread."""

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
        self._pools = {one.name: self._new_pool(one) for one in servables}
        self._turns = deque(self._pools)
        self._leases = {name: Leases(name, slots) for name in self._pools}
        self._observer = observer
        self._status = Status(self._pools)
        self._commands: queue.SimpleQueue[_Command | Newcomer | None] = (
            queue.SimpleQueue()
        )
        self._deliver: Callable[[list[Outcome]], None] = _drop
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    @property
    def health(self) -> Health:
        """What the engine says of itself; any thread may ask."""
        return self._status.health

    def slots_used(self, model: str) -> int:
        """Return how many of a model's slots are lent."""
        return self._leases[model].used

    def tick_events(self, model: str) -> int:
        """Return how many events make a tick of a model.

        Raises:
            UnknownServable: No model has that name.
        """
        if model not in self._pools:
            raise UnknownServable(model)
        return self._pools[model].tick_events

    def ticks_waiting(self, model: str) -> int:
        """Return how many whole ticks wait in a model's queue."""
        return self._pools[model].ticks_waiting

    def start(self, deliver: Callable[[list[Outcome]], None]) -> None:
        """Start the device thread; it compiles first.

        Args:
            deliver: Takes each batch's outcomes, on the device thread.
        """
        self._deliver = deliver
        self._thread.start()

    def load(self, servable: Servable) -> None:
        """Take in another model while the others serve; its sessions may then open.

        It is compiled and proven on the caller's thread, so that nobody's events
        wait for it. One that is refused leaves the engine as it was.

        Raises:
            CanaryMismatch: A bucket computes wrong scores.
            AlreadyServed: A model has that name.
            NotReady: The engine does not run, or no more.
        """
        if servable.name in self._pools:
            raise AlreadyServed(servable.name)
        newcomer = Newcomer(servable.name, self._new_pool(servable))
        self._observer.compiled(servable.name, newcomer.prove())
        self._commands.put(newcomer)
        newcomer.wait(self._thread.is_alive)
        if newcomer.pool is not self._pools[servable.name]:
            raise AlreadyServed(servable.name)

    def stop(self) -> None:
        """End the device thread and wait for it; what is queued is not scored."""
        self._status.stop()
        self._commands.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def open(self, model: str, half_life_ms: float) -> Lease:
        """Lend a slot to a new session.

        Raises:
            UnknownServable: No model has that name.
            NotReady: It is not compiled yet, or the engine stops.
            EngineFailed: Its pool is lost.
            SlotsExhausted: No slot is free.
        """
        lease = self._lend(model)
        self._send(lease, lambda pool: pool.insert(lease, half_life_ms))
        return lease

    def submit(self, lease: Lease, chunk: TokenChunk) -> None:
        """Queue a session's events; they are scored once they make whole ticks.

        Raises:
            StaleLease: The lease has ended.
        """
        self._leases[lease.model].check(lease)
        self._send(lease, lambda pool: pool.submit(lease, chunk))

    def reset(self, lease: Lease, half_life_ms: float) -> Lease:
        """Forget all of a session's events; scores on their way go to the old lease.

        Raises:
            StaleLease: The lease has ended.
        """
        renewed = self._leases[lease.model].renew(lease)
        self._send(renewed, lambda pool: pool.insert(renewed, half_life_ms))
        return renewed

    def export(self, lease: Lease, done: Callable[[RowState], None]) -> None:
        """Ask for a session's row as it is once every event so far is queued.

        It leaves as an `Exported` that carries `done`, in order with the scores: all
        ticks that are in the row come before it, all others after.

        Raises:
            StaleLease: The lease has ended.
        """
        self._leases[lease.model].check(lease)
        self._send(lease, lambda pool: pool.export(lease, done))

    def restore(self, model: str, row: RowState) -> Lease:
        """Lend a slot to a session that goes on from a row; raises as `open`."""
        lease = self._lend(model)
        self._send(lease, lambda pool: pool.restore(lease, row))
        return lease

    def release(self, lease: Lease) -> None:
        """Give a slot back.

        Raises:
            StaleLease: The lease has ended.
        """
        self._leases[lease.model].give_back(lease)
        self._send(lease, lambda pool: pool.release(lease))

    def _lend(self, model: str) -> Lease:
        if model not in self._leases:
            raise UnknownServable(model)
        self._status.check(model)
        return self._leases[model].lend()

    def _send(self, lease: Lease, run: Callable[[Pool], None]) -> None:
        pool = self._pools[lease.model]
        self._commands.put(_Command(lease, lambda: run(pool)))

    # From here on, everything runs on the device thread.

    def _run(self) -> None:
        try:
            self._prepare_all()
            flight: InFlight | None = None
            while self._obey(idle=flight is None):
                launched = self._launch()
                if flight is not None:
                    self._hand_back(flight)
                self._hand_out()
                flight = launched
        except Exception as error:
            LOG.exception("the device thread ends")
            for name in self._pools:
                self._fail(name, error)

    def _prepare_all(self) -> None:
        """Compile every model; only then is any ready, since this thread is busy."""
        for name, pool in self._pools.items():
            self._prepare(name, pool)
        for name in self._pools:
            if self._status.failure(name) is None:
                self._status.ready(name)

    def _prepare(self, name: str, pool: Pool) -> None:
        started_s = time.perf_counter()
        try:
            pool.prepare(lambda what: self._status.compiling(name, what))
        except NotReady:
            return
        except Exception as error:
            self._fail(name, error)
            return
        self._observer.compiled(name, time.perf_counter() - started_s)

    def _obey(self, *, idle: bool) -> bool:
        """Run the commands that wait; wait for one when there is nothing else to do."""
        block = idle and not any(pool.ticks_waiting for pool in self._pools.values())
        while True:
            try:
                command = self._commands.get(block=block)
            except queue.Empty:
                return True
            if command is None:
                return False
            if isinstance(command, Newcomer):
                self._add(command)
            else:
                self._run_command(command)
            block = False

    def _add(self, newcomer: Newcomer) -> None:
        name = newcomer.name
        if name not in self._pools:  # somebody else may have been first
            self._pools[name] = newcomer.pool
            self._leases[name] = Leases(name, self._slots)
            self._turns.append(name)
            self._status.add(name)
        newcomer.settle()

    def _run_command(self, command: _Command) -> None:
        model, lease = command.lease.model, command.lease
        failure = self._status.failure(model)
        if failure is not None:
            self._deliver([Failed(lease, failure)])
            return
        try:
            command.run()
        except EngineError as error:
            self._deliver([Failed(lease, error)])
        except Exception as error:
            self._fail(model, error)

    def _launch(self) -> InFlight | None:
        """Launch a batch of the next model that has work."""
        for name in tuple(self._turns):
            self._turns.rotate(-1)
            try:
                flight = self._pools[name].launch()
            except Exception as error:
                self._fail(name, error)
                continue
            if flight is not None:
                return flight
        return None

    def _hand_back(self, flight: InFlight) -> None:
        try:
            scored = collect(flight)
        except Exception as error:
            self._fail(flight.model, error)
            return
        self._observer.ran(
            flight.model, flight.batch, time.perf_counter() - flight.launched_s
        )
        self._deliver(list(scored))

    def _hand_out(self) -> None:
        """Deliver the rows that were asked for before this turn's batch.

        They hold the ticks of the batch that has just been handed back, and none of
        the batch that was launched since.
        """
        for name, pool in self._pools.items():
            try:
                exported = [collect_row(export) for export in pool.take_exports()]
            except Exception as error:
                self._fail(name, error)
                continue
            if exported:
                self._deliver(list(exported))

    def _fail(self, model: str, error: Exception) -> None:
        """Give a model's pool up and tell every session on it."""
        LOG.error("model %r is lost: %s", model, error, exc_info=error)
        typed = error if isinstance(error, EngineError) else EngineFailed(_say(error))
        self._status.fail(model, typed)
        self._deliver([Failed(lease, typed) for lease in self._pools[model].abandon()])


def _drop(outcomes: list[Outcome]) -> None:
    """Take outcomes before anybody asked for them."""


def _say(error: Exception) -> str:
    """Name an exception without its text, which may hold what clients must not see."""
    return type(error).__name__

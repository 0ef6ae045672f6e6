"""The device thread: the only one that touches the pools; it runs commands in order.

One step runs the commands that wait, launches the next batch, and only then reads back
the scores of the batch before: the device computes while the host delivers. No caller
waits for the thread; all results leave through the `deliver` callback.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any, Final, get_args

from saccade.server.engine.commands import (
    Command,
    Export,
    Fail,
    Insert,
    Release,
    Restore,
    SlotCommand,
    Submit,
)
from saccade.server.engine.errors import (
    CanaryMismatch,
    DeviceLost,
    EngineError,
    EngineFailed,
    NotReady,
    UnknownServable,
)
from saccade.server.engine.health import Status
from saccade.server.engine.in_flight import InFlight, pages_of, read_scores
from saccade.server.engine.leases import Lease
from saccade.server.engine.lost_device import loses_device
from saccade.server.engine.outputs import (
    Deliver,
    DeviceOutput,
    Observer,
    StreamFailed,
)
from saccade.server.engine.pool import Pool
from saccade.server.engine.recompiles import Recompiles
from saccade.server.engine.ticks import TickArena
from saccade.server.logs import about

LOG: Final = logging.getLogger(__name__)

MOST: Final = 3
WITHIN_S: Final = 60.0
"""More failures than `MOST` in so short a time have a cause that stays."""

ALIVE_CHECK_S: Final = 0.5
"""How often a caller that waits for the device thread checks that the thread runs."""


class RestartLimiter:
    """Limits how often each model restarts within a time; has no clock of its own."""

    def __init__(self, most: int = MOST, within_s: float = WITHIN_S) -> None:
        self._most = most
        self._within_s = within_s
        self._times_s: defaultdict[str, deque[float]] = defaultdict(deque)

    def allow(self, model: str, now_s: float) -> bool:
        """Return whether a model may restart once more, and count it if so."""
        times_s = self._times_s[model]
        while times_s and times_s[0] <= now_s - self._within_s:
            times_s.popleft()
        if len(times_s) >= self._most:
            return False
        times_s.append(now_s)
        return True


class Device:
    """One thread around the pools of all models.

    Front ends are told apart by a number, their *port*.

    Args:
        pools: By model.
        status: Receives each model's state.
        observer: Counts.
        compiling: Held while the models are compiled: of several devices one after
            the other, since those of one kind find each other's programs.

    Attributes:
        on_lost: Called once the process cannot use the device any more, on the device
            thread and before the sessions fail.
        busy_s: Time in steps, all of which had work.
        recompiles: Counts what the thread compiles once it serves.
    """

    def __init__(
        self,
        pools: dict[str, Pool],
        status: Status,
        observer: Observer,
        compiling: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.pools = pools
        self._turns = deque(pools)
        self._status = status
        self._observer = observer
        self._compiling = compiling or nullcontext()
        self._work: queue.SimpleQueue[Callable[[], None] | None]
        self._work = queue.SimpleQueue()
        self._ports: dict[int, Deliver] = {}
        self._outputs: dict[int, list[DeviceOutput]] = {}
        self._restarts = RestartLimiter()
        self._began_s: float | None = None
        self.busy_s = 0.0
        self.recompiles = Recompiles()
        self.on_lost: Callable[[], None] = _ignore
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """Start the thread; it compiles first."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; what is queued is not scored."""
        self._work.put(None)
        if self._thread.is_alive():
            self._thread.join()

    @property
    def step_s(self) -> float:
        """How long the step under way has taken so far; 0 between two steps."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def connect(self, port: int, deliver: Deliver) -> None:
        """Deliver a front end's outputs to it from now on."""
        self._work.put(partial(self._ports.__setitem__, port, deliver))

    def disconnect(self, port: int) -> None:
        """End all sessions of a front end that is gone."""
        self._work.put(partial(self._remove_port, port))

    def add_arena(self, port: int, model: str, arena: TickArena) -> None:
        """Find the pages of a front end's ticks of a model in this arena."""
        self._work.put(partial(self._add_arena, port, model, arena))

    def send(self, port: int, commands: list[Command]) -> None:
        """Run a front end's commands, in order, after all that was sent before."""
        self._work.put(partial(self._run_commands, port, commands))

    def add(self, pool: Pool) -> bool:
        """Add a prepared pool and wait until the thread has done so.

        Returns:
            Whether the pool was added: not if its model had one.

        Raises:
            NotReady: The thread does not run, and never will.
        """
        added: Future[bool] = Future()
        self._work.put(partial(self._add, pool, added))
        while True:
            with suppress(TimeoutError):
                return added.result(ALIVE_CHECK_S)
            if not self._thread.is_alive():
                raise NotReady("the device thread does not run")

    def remove(self, model: str) -> None:
        """Remove a model's pool, after all that was sent before."""
        self._work.put(partial(self._remove, model))

    def lose(self, error: Exception) -> None:
        """End the thread: a call of another thread's has lost the device."""
        self._work.put(partial(_raise_if_lost, error))

    # From here on, everything runs on the thread.

    def _run(self) -> None:
        try:
            with self._compiling:
                self._prepare_all()
            self.recompiles.begin()
            flight: InFlight | None = None
            while self._take_work(idle=flight is None):
                flight = self._step(flight)
        except Exception as error:
            LOG.exception("the device thread ends", extra=about("device_ended"))
            if isinstance(error, DeviceLost):
                self.on_lost()
            for name in self.pools:
                self._fail(name, error)
            self._deliver()

    def _step(self, flight: InFlight | None) -> InFlight | None:
        """Launch the next batch, and deliver the results of the one before.

        The results come first where the device has finished: then nothing is gained
        by packing first, and their sessions would wait for it. A CPU may have finished
        with the next batch as well.
        """
        self._began_s = began_s = time.monotonic()
        self._begin_exports()
        done = flight is not None and flight.done
        if flight is not None and done:
            self._read_scores(flight)
            self._deliver()
        launched = self._launch()
        if flight is not None and not done:
            self._read_scores(flight)
        self._read_exports()
        if launched is not None and self._is_over(launched):
            self._read_scores(launched)
            launched = None
        self._deliver()
        self._began_s = None
        self.busy_s += time.monotonic() - began_s
        return launched

    def _is_over(self, launched: InFlight) -> bool:
        """Return whether a batch was over with its launch, as on an idle CPU."""
        return launched.done

    def _prepare_all(self) -> None:
        """Compile every model; only then is any ready, since this thread is busy."""
        for name, pool in self.pools.items():
            self._prepare(name, pool)
        for name, pool in self.pools.items():
            if self._status.failure(name) is None:
                self._status.ready(name, pool.canary)

    def _prepare(self, name: str, pool: Pool) -> None:
        try:
            seconds = pool.prepare(lambda what: self._status.compiling(name, what))
        except NotReady:
            return
        except Exception as error:
            _raise_if_lost(error)
            self._note_canary(name, error)
            self._fail(name, error)
            return
        self._observer.compiled(name, seconds)

    def _take_work(self, *, idle: bool) -> bool:
        """Do the work that waits, or wait for some if there is nothing else to do.

        Returns:
            Whether the thread goes on.
        """
        block = idle and not any(pool.ticks_waiting for pool in self.pools.values())
        while True:
            try:
                work = self._work.get(block=block)
            except queue.Empty:
                return True
            if work is None:
                return False
            work()
            block = False

    def _add_arena(self, port: int, model: str, arena: TickArena) -> None:
        if model in self.pools:
            self.pools[model].add_arena(port, arena)

    def _remove_port(self, port: int) -> None:
        for pool in self.pools.values():
            pool.remove_port(port)
        self._ports.pop(port, None)
        self._outputs.pop(port, None)

    def _run_commands(self, port: int, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Submit):
                self._submit(port, command)
            else:
                self._run_on_pool(port, command)

    def _add(self, pool: Pool, added: Future[bool]) -> None:
        new = pool.model not in self.pools  # two callers may load one model
        if new:
            # A new dict: other threads read the old one meanwhile.
            self.pools = {**self.pools, pool.model: pool}
            self._turns.append(pool.model)
            self._status.add(pool.model, pool.canary)
        added.set_result(new)

    def _remove(self, model: str) -> None:
        self.pools = {k: pool for k, pool in self.pools.items() if k != model}
        self._turns.remove(model)
        self._status.remove(model)

    def _submit(self, port: int, submit: Submit) -> None:
        pool = self.pools.get(submit.model)
        if pool is None:
            return
        try:
            pool.submit(port, submit)
        except Exception as error:
            self._recover(submit.model, error)
        failure = self._status.failure(submit.model)
        if failure is not None:  # the sessions hear it again, so that none hangs
            held = zip(submit.slots.tolist(), submit.generations.tolist(), strict=True)
            for slot, generation in dict.fromkeys(held):
                lease = Lease(submit.model, slot, generation)
                self._put(port, StreamFailed(lease, failure))

    def _run_on_pool(self, port: int, command: SlotCommand) -> None:
        lease = command.lease
        pool = self.pools.get(lease.model)
        failure = self._status.failure(lease.model)
        if pool is None or failure is not None:
            failure = failure or UnknownServable(lease.model)
            self._put(port, StreamFailed(lease, failure))
            return
        try:
            _RUN[type(command)](pool, port, command)
        except EngineError as error:
            self._put(port, StreamFailed(lease, error))
        except Exception as error:
            self._recover(lease.model, error)

    def _launch(self) -> InFlight | None:
        """Launch a batch of the next model that has work."""
        for name in tuple(self._turns):
            self._turns.rotate(-1)
            try:
                flight = self.pools[name].launch()
            except Exception as error:
                self._recover(name, error)
                continue
            if flight is not None:
                return flight
        return None

    def _read_scores(self, flight: InFlight) -> None:
        pool = self.pools.get(flight.model)
        if pool is None or flight.restarts != pool.restarts:
            # The batch's sessions have received `StreamFailed`.
            self._put_all(pages_of(flight, scored=False))
            return
        try:
            done = read_scores(flight)
        except Exception as error:
            self._put_all(pages_of(flight, scored=False))
            self._recover(flight.model, error)
            return
        self._observer.ran(
            flight.model, flight.batch, time.perf_counter() - flight.launched_s
        )
        self._put_all(done)

    def _begin_exports(self) -> None:
        for name, pool in self.pools.items():
            try:
                pool.begin_exports()
            except Exception as error:
                self._recover(name, error)

    def _read_exports(self) -> None:
        """Read the rows whose export was commanded before this step's launch.

        They hold the ticks of the batch whose scores have just been read, and none of
        the batch that was launched since.
        """
        for name, pool in self.pools.items():
            try:
                self._put_all(pool.take_exports())
            except Exception as error:
                self._recover(name, error)

    def _put(self, port: int, output: DeviceOutput) -> None:
        self._outputs.setdefault(port, []).append(output)

    def _put_all(self, outputs: Sequence[tuple[int, DeviceOutput]]) -> None:
        for port, output in outputs:
            self._put(port, output)

    def _deliver(self) -> None:
        """Deliver what has come out since the last call, in one call a front end."""
        for pool in self.pools.values():
            self._put_all(pool.take_dropped())
        outputs, self._outputs = self._outputs, {}
        for port, each in outputs.items():
            if port in self._ports:
                self._ports[port](each)

    def _recover(self, model: str, error: Exception) -> None:
        """Restart a pool that failed, and end every session that was on it.

        Swapped-out sessions go on, unless the restart fails too.

        Raises:
            DeviceLost: No restart could help.
        """
        _raise_if_lost(error)
        facts = about("model_failed", model=model)
        LOG.error("model %r failed: %s", model, error, exc_info=error, extra=facts)
        self._observer.failed(model)
        lost = self.pools[model].evict_all() if model in self.pools else []
        if not self._restart(model):
            self._status.fail(model, _typed(error))
        for port, lease in lost:
            self._put(port, StreamFailed(lease, _typed(error)))

    def _restart(self, model: str) -> bool:
        """Make a pool's rows anew; return whether that succeeded."""
        if model not in self.pools:
            return False
        lost = about("model_lost", model=model)
        if not self._restarts.allow(model, time.monotonic()):
            LOG.error("model %r fails too often: it is given up", model, extra=lost)
            return False
        try:
            self.pools[model].restart()
        except Exception as error:
            _raise_if_lost(error)
            self._note_canary(model, error)
            LOG.exception("model %r cannot be brought back", model, extra=lost)
            return False
        facts = about("model_recovered", model=model)
        LOG.warning("model %r is back; its sessions may be resumed", model, extra=facts)
        return True

    def _note_canary(self, model: str, error: Exception) -> None:
        if isinstance(error, CanaryMismatch):
            self._observer.canary_missed(model)

    def _fail(self, model: str, error: Exception) -> None:
        """Give a model up for good, and end every session on it."""
        facts = about("model_lost", model=model)
        LOG.error("model %r is lost: %s", model, error, exc_info=error, extra=facts)
        self._status.fail(model, _typed(error))
        lost = self.pools[model].evict_all()
        for port, lease in lost:
            self._put(port, StreamFailed(lease, _typed(error)))


def _typed(error: Exception) -> EngineError:
    """Name an exception without its text, which may hold what clients must not see."""
    return (
        error if isinstance(error, EngineError) else EngineFailed(type(error).__name__)
    )


def _raise_if_lost(error: Exception) -> None:
    if loses_device(error):
        raise DeviceLost from error


def _ignore() -> None:
    """Leave a lost device to the sessions, which fail."""


def _insert(pool: Pool, port: int, command: Insert) -> None:
    pool.insert(port, command.lease, command.half_life_ms)


def _restore(pool: Pool, port: int, command: Restore) -> None:
    pool.restore(port, command.lease, command.leaves)


def _export(pool: Pool, port: int, command: Export) -> None:
    pool.export(port, command.lease)


def _release(pool: Pool, _: int, command: Release) -> None:
    pool.release(command.lease)


def _fail(_pool: Pool, _: int, command: Fail) -> None:
    raise command.error


_RUN: Final[dict[type[SlotCommand], Callable[[Pool, int, Any], None]]] = {
    Insert: _insert,
    Restore: _restore,
    Export: _export,
    Release: _release,
    Fail: _fail,
}
assert set(_RUN) == {*get_args(SlotCommand)}
"""What each command about one slot does."""

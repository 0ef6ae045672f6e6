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
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Final

from saccade.server.engine.errors import EngineError, EngineFailed, NotReady
from saccade.server.engine.health import Status
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import (
    Deliver,
    EngineOutput,
    Observer,
    StreamFailed,
    read_export,
)
from saccade.server.engine.pool import InFlight, Pool, read_scores

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

    Args:
        pools: By model.
        status: Receives each model's state.
        observer: Counts.
    """

    def __init__(
        self, pools: dict[str, Pool], status: Status, observer: Observer
    ) -> None:
        self.pools = pools
        self._turns = deque(pools)
        self._status = status
        self._observer = observer
        self._commands: queue.SimpleQueue[Callable[[], None] | None]
        self._commands = queue.SimpleQueue()
        self._deliver: Deliver = _drop
        self._restarts = RestartLimiter()
        self._began_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self, deliver: Deliver) -> None:
        """Start the thread; it compiles first."""
        self._deliver = deliver
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; what is queued is not scored."""
        self._commands.put(None)
        if self._thread.is_alive():
            self._thread.join()

    @property
    def step_s(self) -> float:
        """How long the step under way has taken so far; 0 between two steps."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def send(self, lease: Lease, run: Callable[[Pool], None]) -> None:
        """Run a command on a session's pool, after all that was sent before."""
        self._commands.put(partial(self._run_on_pool, lease, run))

    def add(self, pool: Pool) -> bool:
        """Add a prepared pool and wait until the thread has done so.

        Returns:
            Whether the pool was added: not if its model had one.

        Raises:
            NotReady: The thread does not run, and never will.
        """
        added: Future[bool] = Future()
        self._commands.put(partial(self._add, pool, added))
        while True:
            with suppress(TimeoutError):
                return added.result(ALIVE_CHECK_S)
            if not self._thread.is_alive():
                raise NotReady("the device thread does not run")

    def remove(self, model: str) -> None:
        """Remove a model's pool, after all that was sent before."""
        self._commands.put(partial(self._remove, model))

    # From here on, everything runs on the thread.

    def _run(self) -> None:
        try:
            self._prepare_all()
            flight: InFlight | None = None
            while self._run_commands(idle=flight is None):
                flight = self._step(flight)
        except Exception as error:
            LOG.exception("the device thread ends")
            for name in self.pools:
                self._fail(name, error)

    def _step(self, flight: InFlight | None) -> InFlight | None:
        """Launch the next batch, and deliver the results of the one before."""
        self._began_s = time.monotonic()
        launched = self._launch()
        if flight is not None:
            self._deliver_scores(flight)
        self._deliver_exports()
        self._began_s = None
        return launched

    def _prepare_all(self) -> None:
        """Compile every model; only then is any ready, since this thread is busy."""
        for name, pool in self.pools.items():
            self._prepare(name, pool)
        for name in self.pools:
            if self._status.failure(name) is None:
                self._status.ready(name)

    def _prepare(self, name: str, pool: Pool) -> None:
        try:
            seconds = pool.prepare(lambda what: self._status.compiling(name, what))
        except NotReady:
            return
        except Exception as error:
            self._fail(name, error)
            return
        self._observer.compiled(name, seconds)

    def _run_commands(self, *, idle: bool) -> bool:
        """Run the commands that wait, or wait for one if there is nothing else to do.

        Returns:
            Whether the thread goes on.
        """
        block = idle and not any(pool.ticks_waiting for pool in self.pools.values())
        while True:
            try:
                command = self._commands.get(block=block)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()
            block = False

    def _add(self, pool: Pool, added: Future[bool]) -> None:
        new = pool.model not in self.pools  # two callers may load one model
        if new:
            # A new dict: other threads read the old one meanwhile.
            self.pools = {**self.pools, pool.model: pool}
            self._turns.append(pool.model)
            self._status.add(pool.model)
        added.set_result(new)

    def _remove(self, model: str) -> None:
        self.pools = {k: pool for k, pool in self.pools.items() if k != model}
        self._turns.remove(model)
        self._status.remove(model)

    def _run_on_pool(self, lease: Lease, run: Callable[[Pool], None]) -> None:
        failure = self._status.failure(lease.model)
        if failure is not None:
            self._deliver([StreamFailed(lease, failure)])
            return
        try:
            run(self.pools[lease.model])
        except EngineError as error:
            self._deliver([StreamFailed(lease, error)])
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

    def _deliver_scores(self, flight: InFlight) -> None:
        pool = self.pools.get(flight.model)
        if pool is None or flight.restarts != pool.restarts:
            return  # the batch's sessions have received `StreamFailed`
        try:
            scores = read_scores(flight)
        except Exception as error:
            self._recover(flight.model, error)
            return
        self._observer.ran(
            flight.model, flight.batch, time.perf_counter() - flight.launched_s
        )
        self._deliver(list(scores))

    def _deliver_exports(self) -> None:
        """Deliver the rows whose export was commanded before this step's launch.

        They hold the ticks of the batch whose scores have just been delivered, and
        none of the batch that was launched since.
        """
        for name, pool in self.pools.items():
            try:
                exported = [read_export(export) for export in pool.take_exports()]
            except Exception as error:
                self._recover(name, error)
                continue
            if exported:
                self._deliver(list(exported))

    def _recover(self, model: str, error: Exception) -> None:
        """Restart a pool that failed, and end every session that was on it.

        Swapped-out sessions go on, unless the restart fails too.
        """
        LOG.error("model %r failed: %s", model, error, exc_info=error)
        self._observer.failed(model)
        lost = self.pools[model].evict_all() if model in self.pools else []
        if not self._restart(model):
            self._status.fail(model, _typed(error))
        self._deliver([StreamFailed(lease, _typed(error)) for lease in lost])

    def _restart(self, model: str) -> bool:
        """Make a pool's rows anew; return whether that succeeded."""
        if model not in self.pools:
            return False
        if not self._restarts.allow(model, time.monotonic()):
            LOG.error("model %r fails too often: it is given up", model)
            return False
        try:
            self.pools[model].restart()
        except Exception:
            LOG.exception("model %r cannot be brought back", model)
            return False
        LOG.warning("model %r is back; its sessions may be resumed", model)
        return True

    def _fail(self, model: str, error: Exception) -> None:
        """Give a model up for good, and end every session on it."""
        LOG.error("model %r is lost: %s", model, error, exc_info=error)
        self._status.fail(model, _typed(error))
        lost = self.pools[model].evict_all()
        self._deliver([StreamFailed(lease, _typed(error)) for lease in lost])


def _drop(outputs: list[EngineOutput]) -> None:
    """Discard outputs from before the thread started."""


def _typed(error: Exception) -> EngineError:
    """Name an exception without its text, which may hold what clients must not see."""
    return (
        error if isinstance(error, EngineError) else EngineFailed(type(error).__name__)
    )

"""How often a model that failed is brought back before it is given up."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from saccade.server.engine.errors import EngineError, EngineFailed, NotReady
from saccade.server.engine.health import Status
from saccade.server.engine.leases import Lease
from saccade.server.engine.newcomer import Newcomer
from saccade.server.engine.outputs import (
    Deliver,
    EngineOutput,
    Observer,
    StreamFailed,
    collect_row,
)
from saccade.server.engine.pool import InFlight, Pool, collect

MOST: Final = 3
WITHIN_S: Final = 60.0
"""More failures than that in so short a time have a cause that stays."""


class RestartLimiter:
    """What was recovered when; no clock of its own."""

    def __init__(self, most: int = MOST, within_s: float = WITHIN_S) -> None:
        self._most = most
        self._within_s = within_s
        self._times_s: defaultdict[str, deque[float]] = defaultdict(deque)

    def allow(self, model: str, now_s: float) -> bool:
        """Tell whether a model may be recovered once more, and count it if so."""
        times_s = self._times_s[model]
        while times_s and times_s[0] <= now_s - self._within_s:
            times_s.popleft()
        if len(times_s) >= self._most:
            return False
        times_s.append(now_s)
        return True


# >>> merged from server.engine.device
# >>> """The device thread: it alone touches the pools, and obeys commands.
# >>>
# >>> A turn takes the commands that wait, launches the next batch, and only then reads back
# >>> the scores of the batch before, so that the device computes while the host hands
# >>> results on. Nobody waits for the thread: what it finds leaves by callback.
# >>> """

LOG: Final = logging.getLogger(__name__)


class _Command(NamedTuple):
    """Something to do with a pool, and for whom."""

    lease: Lease
    run: Callable[[Pool], None]


class _Dismissal(NamedTuple):
    """A model that nobody uses any more."""

    model: str


class Device:
    """One thread around the pools of all models.

    Args:
        pools: By model.
        status: Where it notes what it does.
        observer: Counts.
    """

    def __init__(
        self, pools: dict[str, Pool], status: Status, observer: Observer
    ) -> None:
        self.pools = pools
        self._turns = deque(pools)
        self._status = status
        self._observer = observer
        self._commands: queue.SimpleQueue[_Command | Newcomer | _Dismissal | None]
        self._commands = queue.SimpleQueue()
        self._deliver: Deliver = _drop
        self._recoveries = RestartLimiter()
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

    def alive(self) -> bool:
        """Tell whether anybody obeys."""
        return self._thread.is_alive()

    @property
    def silent_s(self) -> float:
        """How long the turn under way has taken so far; 0 between two."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def send(self, lease: Lease, run: Callable[[Pool], None]) -> None:
        """Have something done with a session's pool, after all that was sent before."""
        self._commands.put(_Command(lease, run))

    def admit(self, newcomer: Newcomer) -> None:
        """Have another pool taken in, unless its model has one."""
        self._commands.put(newcomer)

    def dismiss(self, model: str) -> None:
        """Have a pool let go, after all that was sent before."""
        self._commands.put(_Dismissal(model))

    # From here on, everything runs on the thread.

    def _run(self) -> None:
        try:
            self._prepare_all()
            flight: InFlight | None = None
            while self._obey(idle=flight is None):
                flight = self._turn(flight)
        except Exception as error:
            LOG.exception("the device thread ends")
            for name in self.pools:
                self._lose(name, error)

    def _turn(self, flight: InFlight | None) -> InFlight | None:
        """Launch the next batch, and deliver what came of the one before."""
        self._began_s = time.monotonic()
        launched = self._launch()
        if flight is not None:
            self._hand_back(flight)
        self._hand_out()
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
        started_s = time.perf_counter()
        try:
            pool.prepare(lambda what: self._status.compiling(name, what))
        except NotReady:
            return
        except Exception as error:
            self._lose(name, error)
            return
        self._observer.compiled(name, time.perf_counter() - started_s)

    def _obey(self, *, idle: bool) -> bool:
        """Run the commands that wait; wait for one when there is nothing else to do."""
        block = idle and not any(pool.ticks_waiting for pool in self.pools.values())
        while True:
            try:
                command = self._commands.get(block=block)
            except queue.Empty:
                return True
            match command:
                case None:
                    return False
                case Newcomer():
                    self._add(command)
                case _Dismissal(model):
                    self._remove(model)
                case _Command():
                    self._run_command(command)
            block = False

    def _add(self, newcomer: Newcomer) -> None:
        name = newcomer.name
        if name not in self.pools:  # somebody else may have been first
            self.pools = {**self.pools, name: newcomer.pool}  # others read it meanwhile
            self._turns.append(name)
            self._status.add(name)
        newcomer.settle()

    def _remove(self, model: str) -> None:
        self.pools = {k: pool for k, pool in self.pools.items() if k != model}
        self._turns.remove(model)
        self._status.remove(model)

    def _run_command(self, command: _Command) -> None:
        model, lease = command.lease.model, command.lease
        failure = self._status.failure(model)
        if failure is not None:
            self._deliver([StreamFailed(lease, failure)])
            return
        try:
            command.run(self.pools[model])
        except EngineError as error:
            self._deliver([StreamFailed(lease, error)])
        except Exception as error:
            self._fail(model, error)

    def _launch(self) -> InFlight | None:
        """Launch a batch of the next model that has work."""
        for name in tuple(self._turns):
            self._turns.rotate(-1)
            try:
                flight = self.pools[name].launch()
            except Exception as error:
                self._fail(name, error)
                continue
            if flight is not None:
                return flight
        return None

    def _hand_back(self, flight: InFlight) -> None:
        pool = self.pools.get(flight.model)
        if pool is None or flight.era != pool.era:
            return  # whoever waited for it was told that it is lost
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
        for name, pool in self.pools.items():
            try:
                exported = [collect_row(export) for export in pool.take_exports()]
            except Exception as error:
                self._fail(name, error)
                continue
            if exported:
                self._deliver(list(exported))

    def _fail(self, model: str, error: Exception) -> None:
        """Begin anew with a pool that failed, and tell every session that was on it.

        Sessions that are not on it just now notice nothing, unless it stays broken.
        """
        LOG.error("model %r failed: %s", model, error, exc_info=error)
        self._observer.failed(model)
        lost = self.pools[model].abandon() if model in self.pools else []
        if not self._revive(model):
            self._status.fail(model, _typed(error))
        self._deliver([StreamFailed(lease, _typed(error)) for lease in lost])

    def _revive(self, model: str) -> bool:
        """Try to make a pool's rows anew; tell whether that was done."""
        if model not in self.pools:
            return False
        if not self._recoveries.allow(model, time.monotonic()):
            LOG.error("model %r fails too often: it is given up", model)
            return False
        try:
            self.pools[model].revive()
        except Exception:
            LOG.exception("model %r cannot be brought back", model)
            return False
        LOG.warning("model %r is back; its sessions may be resumed", model)
        return True

    def _lose(self, model: str, error: Exception) -> None:
        """Give a model up for good and tell every session on it."""
        LOG.error("model %r is lost: %s", model, error, exc_info=error)
        self._status.fail(model, _typed(error))
        lost = self.pools[model].abandon()
        self._deliver([StreamFailed(lease, _typed(error)) for lease in lost])


def _drop(outcomes: list[EngineOutput]) -> None:
    """Take outcomes before anybody asked for them."""


def _typed(error: Exception) -> EngineError:
    """Name an exception without its text, which may hold what clients must not see."""
    return (
        error if isinstance(error, EngineError) else EngineFailed(type(error).__name__)
    )

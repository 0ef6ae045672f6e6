"""The real engine under load: threads that feed sessions, as a server's workers do.

Each thread has a front end of its own and a share of the sessions. Whenever the scores
of a submit have come, the thread submits the session's next ticks.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np

from benchmarks.accelerator import network
from benchmarks.accelerator.ceilings import Result
from benchmarks.accelerator.network import CONFIG
from benchmarks.accelerator.sizes import Sizes
from saccade.model.tokens import TokenChunk
from saccade.server.engine.commands import Command
from saccade.server.engine.engine import Engine, shape_of
from saccade.server.engine.engine_link import ModelShape
from saccade.server.engine.frontend import Frontend
from saccade.server.engine.leases import Lease
from saccade.server.engine.model_registry import Servable
from saccade.server.engine.outputs import (
    Deliver,
    DeviceOutput,
    StreamFailed,
    TickScores,
)
from saccade.server.engine.scheduler import Batch
from saccade.server.engine.ticks import TickArena

WARM_UP: Final = 0.3
"""Share of a load's time that runs before the measurement."""
POLL_S: Final = 0.05
DISTINCT: Final = 8
PORTS: Final = itertools.count(1)
"""Each front end has a port of its own: outputs of an older one may be under way."""
FOREVER: Final = float("inf")


class Load(NamedTuple):
    """One load on the engine.

    Attributes:
        sessions: How many sessions.
        ticks: Ticks of each submit.
        under_way: Submits of each session that are not scored yet.
    """

    sessions: int
    ticks: int
    under_way: int


class Batches:
    """Counts the engine's calls, and the time from launch to scores, by bucket."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.calls: Counter[str] = Counter()
        self.ticks: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def compiled(self, model: str, seconds: float) -> None:
        """Do nothing."""

    def canary_missed(self, model: str) -> None:
        """Do nothing: the model is refused, which ends the benchmark."""

    def failed(self, model: str) -> None:
        """Do nothing: the sessions end with an error, which is raised."""

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """Count a call."""
        name = str(batch.bucket)
        self.calls[name] += 1
        self.ticks[name] += batch.ticks
        self.seconds[name] += seconds

    def summary(self) -> Result:
        """Return the mean of each bucket."""
        return {
            name: {
                "calls": calls,
                "ticks_a_call": self.ticks[name] / calls,
                "launch_to_scores_ms": 1e3 * self.seconds[name] / calls,
            }
            for name, calls in sorted(self.calls.items())
        }


class _Port:
    """The way of one thread's front end to the engine of this process."""

    def __init__(self, engine: Engine, number: int) -> None:
        self._device, self._number = engine.devices, number
        self.check, self.score_now = engine.check, engine.score_now

    def start(self, deliver: Deliver) -> None:
        """Have outputs delivered, on the device thread."""
        self._device.connect(self._number, deliver)

    def add_arena(self, model: str, arena: TickArena) -> None:
        """Find the pages of a model's ticks in this arena."""
        self._device.add_arena(self._number, model, arena)

    def send(self, commands: list[Command]) -> None:
        """Run commands, in order."""
        self._device.send(self._number, commands)


class Session:
    """One session: its lease, and the submits that are not scored yet."""

    def __init__(self, lease: Lease, ticks: int) -> None:
        self.lease = lease
        self._ticks = ticks
        self._sent_s: deque[float] = deque()
        self._scored = 0

    @property
    def under_way(self) -> int:
        """Submits that are not scored yet."""
        return len(self._sent_s)

    def submitted(self, now_s: float) -> None:
        """Count a submit."""
        self._sent_s.append(now_s)

    def scored(self, ticks: int, now_s: float) -> list[float]:
        """Count scores; return how long the submits took that these complete."""
        self._scored += ticks
        done, self._scored = divmod(self._scored, self._ticks)
        return [now_s - self._sent_s.popleft() for _ in range(done)]


class Feeder:
    """One thread, its front end and its sessions.

    Args:
        engine: The engine, ready.
        shape: The model.
        port: The front end's port.
        slots: The slots of its sessions.
        load: What each session submits.
    """

    def __init__(
        self, engine: Engine, shape: ModelShape, port: int, slots: range, load: Load
    ) -> None:
        self._load, self._engine, self._port = load, engine, port
        self._inbox: queue.SimpleQueue[list[DeviceOutput]] = queue.SimpleQueue()
        backlog = (load.under_way + 1) * load.ticks * CONFIG.tick_events
        self._frontend = Frontend(_Port(engine, port), [shape], [slots], backlog)
        self._frontend.wake = lambda: None  # each turn ends with a flush
        self._frontend.link.start(self._inbox.put)
        self._chunks = itertools.cycle(_chunks(load.ticks))
        self._sessions: dict[Lease, Session] = {}
        for _ in slots:
            lease = self._frontend.open(shape.key, FOREVER)
            self._sessions[lease] = Session(lease, load.ticks)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feeder {port}")
        self._error: Exception | None = None
        self.ticks = 0
        self.latencies_s: list[float] = []

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> Exception | None:
        """End the thread and its sessions; return the error that one failed with."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._engine.devices.disconnect(self._port)
        return self._error

    def _run(self) -> None:
        try:
            for session in self._sessions.values():
                for _ in range(self._load.under_way):
                    self._submit(session)
            self._frontend.flush()
            while not self._stopping.is_set():
                self._turn()
        except Exception as error:  # `stop` returns it
            self._error = error

    def _turn(self) -> None:
        """Take what the engine has delivered, and submit as much again."""
        try:
            outputs = self._inbox.get(timeout=POLL_S)
        except queue.Empty:
            return
        for output in self._frontend.receive(outputs):
            if isinstance(output, StreamFailed):
                raise output.error
            if isinstance(output, TickScores):
                self._scored(output)
        self._frontend.flush()

    def _scored(self, scores: TickScores) -> None:
        session, ticks = self._sessions[scores.lease], len(scores.logits)
        self.ticks += ticks
        self.latencies_s += session.scored(ticks, time.perf_counter())
        while session.under_way < self._load.under_way:
            self._submit(session)

    def _submit(self, session: Session) -> None:
        session.submitted(time.perf_counter())
        self._frontend.submit(session.lease, next(self._chunks))


def loads(sizes: Sizes) -> list[Load]:
    """Return the loads of a run: all slots, then one stream in two ways."""
    many = [Load(sizes.slots, ticks, 2) for ticks in sizes.engine_ticks]
    return [*many, Load(1, 1, 1), Load(1, 16, 4)]


def measure(
    servable: Servable, sizes: Sizes, progress: Callable[[str], None]
) -> Result:
    """Start an engine, and run every load through it."""
    began_s = time.perf_counter()
    with running(servable, sizes) as (engine, batches):
        ready_s, found = time.perf_counter() - began_s, []
        for load in loads(sizes):
            progress(f"{load.sessions:,} sessions × {load.ticks} ticks")
            found.append(_measure(engine, servable, batches, load, sizes))
        return {"until_ready_s": ready_s, "loads": found}


@contextmanager
def running(servable: Servable, sizes: Sizes) -> Iterator[tuple[Engine, Batches]]:
    """Run an engine that is ready.

    Raises:
        RuntimeError: The engine does not become ready; says why.
    """
    batches = Batches()
    largest = max(load.ticks * load.under_way for load in loads(sizes))
    backlog = (largest + 1) * CONFIG.tick_events
    engine = Engine([servable], sizes.slots, sizes.buckets, backlog, batches)
    engine.start(lambda _: None)
    try:
        while not engine.health.ready:
            if engine.health.failed:
                raise RuntimeError(engine.health.reason)
            time.sleep(POLL_S)
        yield engine, batches
    finally:
        engine.stop()


def _measure(
    engine: Engine, servable: Servable, batches: Batches, load: Load, sizes: Sizes
) -> Result:
    with _feeding(engine, servable, load, sizes) as feeders:
        time.sleep(WARM_UP * sizes.engine_s)
        for feeder in feeders:
            feeder.latencies_s.clear()
        batches.clear()
        before = sum(feeder.ticks for feeder in feeders)
        began_s, device_s = time.perf_counter(), _device_cpu_s()
        time.sleep((1 - WARM_UP) * sizes.engine_s)
        ticks = sum(feeder.ticks for feeder in feeders) - before
        wall_s, device_s = time.perf_counter() - began_s, _device_cpu_s() - device_s
        latencies_s = [s for feeder in feeders for s in [*feeder.latencies_s]]
        calls = batches.summary()
    return {
        **load._asdict(),
        "feeders": len(feeders),
        "events_per_s": ticks * CONFIG.tick_events / wall_s,
        "device_thread_cpu_share": device_s / wall_s,
        "submit_to_scores": _latency(latencies_s),
        "buckets": calls,
    }


@contextmanager
def _feeding(
    engine: Engine, servable: Servable, load: Load, sizes: Sizes
) -> Iterator[list[Feeder]]:
    """Run a load's threads; raise the error with which a session has failed."""
    count = min(sizes.feeders, load.sessions)
    bounds = [load.sessions * k // count for k in range(count + 1)]
    feeders: list[Feeder] = []
    try:
        for slots in itertools.starmap(range, itertools.pairwise(bounds)):
            feeders.append(Feeder(engine, shape_of(servable), next(PORTS), slots, load))
        for feeder in feeders:
            feeder.start()
        yield feeders
    finally:
        errors = [feeder.stop() for feeder in feeders]
    for error in errors:
        if error is not None:
            raise error


def _latency(seconds: list[float]) -> Result:
    if not seconds:
        return {"submits": 0}
    p50, p99 = 1e3 * np.percentile(seconds, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "submits": len(seconds)}


def _device_cpu_s() -> float:
    """Return the CPU time of the device thread so far, s."""
    found = 0.0
    for thread in threading.enumerate():
        if thread.name.startswith("device") and thread.ident is not None:
            found += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return found


def _chunks(ticks: int) -> list[TokenChunk]:
    """Return submits of distinct events."""
    size, found = ticks * CONFIG.tick_events, []
    for number in range(DISTINCT):
        tokens, dt_ms = network.stream(number, size)
        t_us = np.cumsum(np.round(1000.0 * dt_ms)).astype(np.int64)
        found.append(TokenChunk(tokens, dt_ms, t_us))
    return found

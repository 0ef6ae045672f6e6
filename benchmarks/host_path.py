"""A server without sockets around a model that costs nothing, for `benchmarks.host`.

All that this benchmark knows of the server's inside stands here: how sessions are made,
and which calls are timed as which stage.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from saccade.clients.benchmark.frames import Frames, random_events
from saccade.model.events.sensor import Sensor
from saccade.model.tokens import Tokenization
from saccade.server.engine import device as device_module
from saccade.server.engine.client import EngineClient
from saccade.server.engine.engine import Engine
from saccade.server.engine.model_registry import Canary, Servable, ServedModel
from saccade.server.engine.outputs import Observer
from saccade.server.engine.pool import Pool
from saccade.server.engine.scheduler import Batch, Bucket
from saccade.server.protocol.conversation import Conversation, Feed, Limits
from saccade.server.protocol.messages import (
    Ack,
    Open,
    Report,
    ResultBatch,
    ServerMessage,
)
from saccade.server.sessions.handle import SessionHandle
from saccade.server.sessions.observer import SessionObserver, Unobserved
from saccade.server.sessions.session import Session
from saccade.server.sessions.snapshots import Snapshot
from saccade.server.transport.send_queue import SendQueue

SENSOR: Final = Sensor(128, 128)
TICK_EVENTS: Final = 256
CLASSES: Final = 11
LEAVES: Final = 12
"""Arrays in a session's row, as many as a row of dvs/small has."""
LEAF_FLOATS: Final = 128
RATE: Final = 100_000.0
"""Events per second of sensor time."""
BUCKETS: Final = tuple(
    Bucket(*shape)
    for shape in ((1, 1), (8, 1), (64, 1), (64, 16), (1024, 1), (1024, 16))
)
LEAST_UNDER_WAY: Final = 8192
"""Events that each session keeps under way, but a frame at least."""
OUTBOX_MESSAGES: Final = 1024
DISTINCT_FRAMES: Final = 4

DEVICE_STAGES: Final[tuple[tuple[str, Any, str], ...]] = (
    ("submit", Pool, "submit"),
    ("launch", Pool, "launch"),
    ("pack", Pool, "_pack"),
    ("collect", device_module, "read_scores"),
    ("export", Pool, "begin_exports"),
    ("read exports", Pool, "take_exports"),
)
"""Stage of the device thread, and the call that is timed as it; a call within another
counts as its own stage only."""


class Stages:
    """CPU time of one thread by stage; a stage within another is not counted twice.

    Attributes:
        seconds: By stage.
        longest_s: The longest call of each stage.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.longest_s: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call that is counted under a stage."""

        def run(*arguments: Any) -> Any:
            self._inner.append(0.0)
            began_s = time.thread_time()
            try:
                return call(*arguments)
            finally:
                spent_s = time.thread_time() - began_s
                own_s = spent_s - self._inner.pop()
                self.seconds[stage] += own_s
                self.longest_s[stage] = max(self.longest_s[stage], own_s)
                if self._inner:
                    self._inner[-1] += spent_s

        return run

    def clear(self) -> None:
        """Begin to count anew."""
        self.seconds.clear()
        self.longest_s.clear()


def untimed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call as it is: timing one takes 2 µs where the kernel is asked."""
    return call


class Batches:
    """An engine's observer that counts batches and ticks."""

    def __init__(self) -> None:
        self.count = 0
        self.ticks = 0

    def compiled(self, model: str, seconds: float) -> None:
        """Do nothing."""

    def canary_missed(self, model: str) -> None:
        """Do nothing: the model is refused, which ends the benchmark."""

    def failed(self, model: str) -> None:
        """Do nothing: the sessions end with an error, which is raised."""

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """Count a batch."""
        self.count += 1
        self.ticks += batch.ticks


def _advance_rows(
    weights: Any, pool: Any, rows: Any, tokens: Any, dt_ms: Any, ticks: Any
) -> tuple[Any, Any]:
    """Return the rows as they are, and the same scores for every tick.

    Every argument is used, so that it is brought to the device as for any model.
    """
    used = tokens[:, 0] + dt_ms[:, 0] + rows + ticks
    size = (tokens.shape[0], tokens.shape[1] // TICK_EVENTS, CLASSES)
    return pool, jnp.zeros(size, jnp.float32) + 0.0 * used[:, None, None] + weights


class Counting(Protocol):
    """Counts what sessions take, as a server's metrics do."""

    def observer(self) -> SessionObserver:
        """Return the observer of another session."""

    def received(self, events: int) -> None:
        """A frame of so many events was taken."""


class Uncounted:
    """Counts nothing."""

    def observer(self) -> SessionObserver:
        """Return an observer that counts nothing."""
        return Unobserved()

    def received(self, events: int) -> None:
        """Count nothing."""


def _fresh(half_life_ms: Any) -> dict[str, Any]:
    row = {f"leaf {n}": jnp.zeros(LEAF_FLOATS, jnp.float32) for n in range(LEAVES - 1)}
    return {**row, "half_life_ms": half_life_ms}


def _unused(*_: Any) -> Any:
    raise AssertionError("rows are moved in place")


def free_model() -> ServedModel:
    """Return a model whose scores are all 0, at no cost."""
    canary_tokens = np.zeros(TICK_EVENTS, np.int32)
    servable = Servable(
        name="free",
        tick_events=TICK_EVENTS,
        classes=CLASSES,
        weights=jnp.float32(0.0),
        fresh=_fresh,
        advance=_unused,
        canary=Canary(
            canary_tokens, canary_tokens.astype(np.float32), np.zeros(CLASSES)
        ),
        advance_rows=_advance_rows,
    )
    tokenization = Tokenization("linear", SENSOR)
    return ServedModel(
        servable=servable,
        labels=tuple(f"class {n}" for n in range(CLASSES)),
        content_hash="free",
        tokenization=tokenization,
        timestep="preceding",
    )


class Shared(NamedTuple):
    """The free model behind its engine, and what is counted while it runs.

    While `running` is clear, the device thread takes no events.
    """

    model: ServedModel
    client: EngineClient
    batches: Batches
    device_stages: Stages
    running: threading.Event


class HostSession:
    """One session, its client's credit, and the queue of its messages.

    Args:
        shared: The engine.
        report: When it gets results.
        unwritten: Receives the session once messages wait.
        observer: Counts what becomes of its events.
    """

    def __init__(
        self,
        shared: Shared,
        report: Report,
        unwritten: dict[HostSession, None],
        observer: SessionObserver,
    ) -> None:
        opening = Open("free", report=report)
        self._queue = SendQueue(OUTBOX_MESSAGES)
        self._unwritten = unwritten
        self.conversation = Conversation(Limits())
        self.conversation.receive(opening)
        self.session = Session(self.conversation, shared.model, opening, self, observer)
        self.session.begin(shared.client)
        self.session.send_opened(SessionHandle("free"))
        self.sent = 0
        self.acked_events = 0

    def put(self, message: ServerMessage) -> None:
        """Queue a message."""
        if isinstance(message, Ack):
            self.acked_events = message.events
        self._queue.put(message)
        self._unwritten[self] = None

    def put_results(self, results: ResultBatch) -> None:
        """Queue results."""
        self._queue.put_results(results)
        self._unwritten[self] = None

    def fail(self, error: Exception) -> None:
        """Raise the error that ends the session."""
        raise error

    def progressed(self) -> None:
        """Do nothing: the loop looks by itself."""

    def write(self) -> int:
        """Encode the messages that wait; return how many there were."""
        count = 0
        for message in self._queue.take_all():
            if isinstance(message, ResultBatch):
                count += len(self.conversation.write_results(message))
            else:
                self.conversation.write(message)
                count += 1
        return count


class HostPath:
    """Many sessions on this thread, and their engine on the device thread.

    Args:
        shared: The engine.
        sessions: How many sessions are open.
        frame_events: Events a frame.
        report: When each session gets results.
        counting: Counts what the sessions take, and what becomes of it.
        timed: Returns a call of the event loop's that is timed as a stage.
    """

    def __init__(
        self,
        shared: Shared,
        sessions: int,
        frame_events: int,
        report: Report,
        counting: Counting | None = None,
        timed: Callable[[str, Callable[..., Any]], Callable[..., Any]] = untimed,
    ) -> None:
        self._counting = counting or Uncounted()
        self._shared = shared
        self._frame_events = frame_events
        self._unwritten: dict[HostSession, None] = {}
        self.sessions = [
            HostSession(shared, report, self._unwritten, self._counting.observer())
            for _ in range(sessions)
        ]
        events = random_events(SENSOR, DISTINCT_FRAMES * frame_events)
        self._frames = Frames(events, frame_events, RATE)
        self._messages: list[bytes] = []
        self._most = max(LEAST_UNDER_WAY, frame_events)
        self._heard = asyncio.Event()
        self._read = timed("read", lambda one, data: one.conversation.read(data))
        self._feed = timed("feed", lambda one, feed: one.session.feed(*feed))
        self._write = timed("write", HostSession.write)
        receive = timed("hear", EngineClient.receive)

        def hear(outputs: Any) -> None:
            receive(shared.client, outputs)
            self._heard.set()

        shared.client.receive = hear  # type: ignore[method-assign]

    async def run(self, seconds: float) -> int:
        """Send as much as the sessions take for so long; return the events scored.

        Every session sends the same frames, so that each is made once.
        """
        before = sum(one.sent for one in self.sessions)
        end_s = time.monotonic() + seconds
        ready = dict.fromkeys(self.sessions)
        while time.monotonic() < end_s:
            self._heard.clear()
            fed = {one: None for one in ready if self._send(one)}
            ready = fed | await self._turn(wait=not fed)
        await self.drain()
        frames = sum(one.sent for one in self.sessions) - before
        return frames * self._frame_events

    async def feed_all(self) -> None:
        """Send one frame of every session, and let the device begin after the last."""
        self._shared.running.clear()
        for one in self.sessions:
            self._send(one)
        self._shared.running.set()
        await self.drain()

    async def drain(self) -> None:
        """Wait until everything is scored, and every message is written."""
        while not all(one.session.drained for one in self.sessions):
            self._heard.clear()
            await self._turn(wait=True)
        await self._turn(wait=False)

    async def export_all(self) -> None:
        """Take a snapshot of every session, and wait for all."""
        done: list[Snapshot | None] = []
        for one in self.sessions:
            one.session.snapshot(done.append)
        while len(done) < len(self.sessions):
            self._heard.clear()
            await self._turn(wait=True)
        assert None not in done

    def close(self) -> None:
        """End every session."""
        for one in self.sessions:
            one.session.release()
        del self._shared.client.receive

    def _send(self, one: HostSession) -> bool:
        """Send a session's next frame if its client may; return whether it did."""
        if one.sent * self._frame_events - one.acked_events >= self._most:
            return False
        while len(self._messages) <= one.sent:
            self._messages.append(self._frames.message(len(self._messages)))
        for request in self._read(one, self._messages[one.sent]):
            assert isinstance(request, Feed), request
            self._counting.received(len(request.chunk.tokens))
            self._feed(one, (request.chunk, request.size))
        one.sent += 1
        return True

    async def _turn(self, *, wait: bool) -> dict[HostSession, None]:
        """Let the loop handle what the device delivered, and write the messages.

        Returns:
            The sessions whose messages were written: their clients may send again.
        """
        if wait:
            await self._heard.wait()
        else:
            await asyncio.sleep(0)
        written = dict(self._unwritten)
        self._unwritten.clear()
        for one in written:
            self._write(one)
        return written


@contextmanager
def shared_engine(capacity: int, observer: Observer | None = None) -> Iterator[Shared]:
    """Run the free model's engine with room for so many sessions; needs a loop.

    Args:
        capacity: How many sessions.
        observer: The engine's; None counts batches alone.
    """
    model, batches = free_model(), Batches()
    buckets = tuple(bucket for bucket in BUCKETS if bucket.rows <= capacity)
    engine = Engine(
        [model.servable],
        capacity,
        buckets,
        3 * Limits().window_events,
        observer or batches,
    )
    client = EngineClient(engine.frontend, capacity)
    device_stages, running = Stages(), threading.Event()
    running.set()
    with _timed(device_stages), _held(running):
        client.start(asyncio.get_running_loop())
        try:
            while not engine.health.ready:
                assert not engine.health.failed, engine.health.reason
                time.sleep(0.01)
            yield Shared(model, client, batches, device_stages, running)
        finally:
            engine.stop()


def device_cpu_s() -> float:
    """Return the CPU time of the device thread so far, s."""
    thread = next(one for one in threading.enumerate() if one.name == "device")
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


@contextmanager
def _timed(stages: Stages) -> Iterator[None]:
    """Time the device thread's calls, where they exist."""
    found = [row for row in DEVICE_STAGES if hasattr(row[1], row[2])]
    kept = [getattr(owner, name) for _, owner, name in found]
    for (stage, owner, name), call in zip(found, kept, strict=True):
        setattr(owner, name, stages.timed(stage, call))
    try:
        yield
    finally:
        for (_, owner, name), call in zip(found, kept, strict=True):
            setattr(owner, name, call)


@contextmanager
def _held(running: threading.Event) -> Iterator[None]:
    """Let the device thread take no events while an event is clear."""
    submit = Pool.submit

    def run(*arguments: Any) -> None:
        running.wait()
        submit(*arguments)

    held: Any = run
    Pool.submit = held  # type: ignore[method-assign]
    try:
        yield
    finally:
        Pool.submit = submit  # type: ignore[method-assign]

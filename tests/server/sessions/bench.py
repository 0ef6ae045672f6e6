"""Sessions over a real engine, without sockets: the test runs the device's steps.

`BenchClient` plays the websocket: it sends frames to its session and records messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import jax

from saccade.model.backends import InPlace
from saccade.model.events.encodings.packed import pack
from saccade.model.events.types import Events
from saccade.model.tokens import TimedTokens
from saccade.server.engine.client import EngineClient
from saccade.server.engine.device import Device, RestartLimiter
from saccade.server.engine.engine import OWN_PORT, Engine
from saccade.server.engine.in_flight import InFlight
from saccade.server.engine.scheduler import Bucket
from saccade.server.engine.time_share import TimeShare
from saccade.server.protocol.conversation import Conversation, Feed, Limits
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import (
    EventsFrame,
    Open,
    Result,
    ResultBatch,
    ServerMessage,
)
from saccade.server.sessions.handle import SessionHandle
from saccade.server.sessions.session import Session
from saccade.server.sessions.snapshots import Snapshot
from tests.faults import Fault
from tests.toy import Recorder, toy_in_place, toy_model

QUICK_TICKS = 4
WINDOW = 200
LIMITS = Limits(
    max_frame_bytes=8 * WINDOW, window_events=WINDOW, window_bytes=8 * WINDOW
)


class RecordingSink:
    """A `MessageSink` that records what it is given."""

    def __init__(self) -> None:
        self.messages: list[ServerMessage] = []
        self.errors: list[ProtocolError] = []

    def put(self, message: ServerMessage) -> None:
        self.messages.append(message)

    def put_results(self, results: ResultBatch) -> None:
        self.messages += results

    def fail(self, error: ProtocolError) -> None:
        self.errors.append(error)

    def progressed(self) -> None:
        pass

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]


def send_frame(
    conversation: Conversation, session: Session, seq: int, events: Events
) -> None:
    """Bring a frame of events to a session, as the websocket would."""
    base = int(events["t"][0]) if len(events) else 0
    frame = EventsFrame(seq, pack(events, base), t_base_us=base)
    for request in conversation.receive(frame):
        assert isinstance(request, Feed)
        session.feed(request.chunk, request.size)


class BenchClient(RecordingSink):
    """One client: the sink of its session, and what it has sent."""

    def __init__(
        self, model: Any, opening: Open, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.fed: list[TimedTokens] = []
        self.opening = opening
        self.conversation = Conversation(LIMITS)
        self.conversation.receive(opening)
        self.session = Session(self.conversation, model, opening, self, None, clock)
        self.seq = 0
        self.watch()

    @property
    def holds_newest(self) -> bool:
        return self.session._input._gaps._holds_newest

    @property
    def scores(self) -> list[float]:
        return [result.logits[0] for result in self.of(Result)]

    def send(self, events: Events) -> None:
        self.seq += 1
        send_frame(self.conversation, self.session, self.seq, events)

    def watch(self) -> None:
        """Record what the gap counter is fed."""
        gaps = self.session._input._gaps
        take = gaps.take

        def fed(chunk: TimedTokens) -> Any:
            self.fed.append(chunk)
            return take(chunk)

        gaps.take = fed  # type: ignore[method-assign]


class Soon:
    """Stands for an event loop whose next turn is the device's next step."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def run(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            call()


class Bench:
    """An engine without its thread: compiled once, emptied for each run.

    Args:
        slots: Of the device.
        capacity: Sessions.
        at_once: Whether ticks of quiet sessions are scored without the device, where a
            call has at most `QUICK_TICKS`; counted in `at_once`.
    """

    def __init__(
        self, slots: int = 3, capacity: int = 6, *, at_once: bool = False
    ) -> None:
        self._slots, self._capacity = slots, capacity
        self._scores_at_once = at_once
        self._soon = Soon()
        self.at_once = 0
        self.fault = Fault()
        self._flight: InFlight | None = None
        self.engine: Engine | None = None

    def begin(self, timestep: Any = "preceding") -> None:
        """Compile if that was not done yet, and free every slot."""
        self.model = toy_model(timestep=timestep, advance=self.fault.advance)
        if self.engine is None:
            buckets = (Bucket(1, 1), Bucket(2, 4))
            servable = self.model.servable
            if self._scores_at_once:
                in_place = InPlace(self._in_place, QUICK_TICKS)
                servable = servable._replace(in_place=in_place)
            self.engine = Engine([servable], self._slots, buckets, 10_000, Recorder())
            self.device._is_over = lambda _: (
                False
            )  # so that a run is the same each time
            self.device._prepare_all()
            self.device._restarts = RestartLimiter(most=10**9)
        frontend = self.engine.frontend
        self.client = EngineClient(frontend, self._capacity)
        if self._scores_at_once:
            self.client._loop = cast(asyncio.AbstractEventLoop, self._soon)
            self.client._own_time = TimeShare(1.0, 1e9)
            self.client.shares.has_little = (  # type: ignore[method-assign]
                lambda *_: True
            )
        self.device.connect(OWN_PORT, self.client.receive)
        self.run()
        for resident in [*frontend._models[self.model.key].residents.values()]:
            frontend.release(resident.lease)
        self.run()

    @property
    def device(self) -> Device:
        assert self.engine is not None
        return self.engine.devices.members[0].device

    def _in_place(
        self, rows: int, sessions: int, ticks: int, *, keeps_lock: bool = False
    ) -> Callable[..., Any]:
        call = toy_in_place(rows, sessions, ticks, keeps_lock=keeps_lock)

        def move(*arguments: Any) -> Any:
            if keeps_lock and self.fault.armed:
                raise MemoryError("no room for a quick call")
            self.at_once += keeps_lock
            return self.fault._pass(call(*arguments))

        return move

    def step(self) -> bool:
        """Do one step of the device thread; return whether there is more to do."""
        self._soon.run()
        device = self.device
        device._take_work(idle=False)
        self._flight = device._step(self._flight)
        if self._flight is not None:  # so that a run is the same each time
            with suppress(jax.errors.JaxRuntimeError):
                jax.block_until_ready(self._flight.logits)
        return self._flight is not None or not device._work.empty()

    def run(self) -> None:
        """Step until nothing is left to do."""
        while self.step():
            pass

    def open(
        self, clock: Callable[[], float] = time.monotonic, **choices: Any
    ) -> BenchClient:
        """Open a session."""
        client = BenchClient(self.model, Open("toy", **choices), clock)
        client.session.begin(self.client)
        client.session.send_opened(SessionHandle("s"))
        return client

    def resume(self, old: BenchClient, snapshot: Snapshot) -> BenchClient:
        """End a session, and continue it from a snapshot."""
        self.release(old)
        new = BenchClient(self.model, old.opening)
        new.session.resume(self.client, snapshot, self.model)
        new.watch()
        new.session.send_opened(SessionHandle("s", resumed=True))
        new.seq = new.conversation.ledger.sent.seq
        new.messages[:0] = old.messages
        return new

    def release(self, client: BenchClient) -> None:
        """End a session."""
        client.session.release()

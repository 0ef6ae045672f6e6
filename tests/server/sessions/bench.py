"""Sessions over a real engine, without sockets: the test runs the device's steps.

`BenchClient` plays the websocket: it sends frames to its session and records messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax

from saccade.model.events.encodings.packed import pack
from saccade.model.events.types import Events
from saccade.model.tokens import TimedTokens
from saccade.server.engine.client import EngineClient
from saccade.server.engine.device import Device, RestartLimiter
from saccade.server.engine.engine import OWN_PORT, Engine
from saccade.server.engine.pool import InFlight
from saccade.server.engine.scheduler import Bucket
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
from tests.toy import Recorder, toy_model

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


class Bench:
    """An engine without its thread: compiled once, emptied for each run."""

    def __init__(self, slots: int = 3, capacity: int = 6) -> None:
        self._slots, self._capacity = slots, capacity
        self.fault = Fault()
        self._flight: InFlight | None = None
        self.engine: Engine | None = None

    def begin(self, timestep: Any = "preceding") -> None:
        """Compile if that was not done yet, and free every slot."""
        self.model = toy_model(timestep=timestep, advance=self.fault.advance)
        if self.engine is None:
            buckets = (Bucket(1, 1), Bucket(2, 4))
            self.engine = Engine(
                [self.model.servable], self._slots, buckets, 10_000, Recorder()
            )
            self.device._is_over = lambda _: (
                False
            )  # so that a run is the same each time
            self.device._prepare_all()
            self.device._restarts = RestartLimiter(most=10**9)
        frontend = self.engine.frontend
        self.client = EngineClient(frontend, self._capacity)
        self.device.connect(OWN_PORT, self.client.receive)
        self.run()
        for resident in [*frontend._models[self.model.key].residents.values()]:
            frontend.release(resident.lease)
        self.run()

    @property
    def device(self) -> Device:
        assert self.engine is not None
        return self.engine.devices.members[0].device

    def step(self) -> bool:
        """Do one step of the device thread; return whether there is more to do."""
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

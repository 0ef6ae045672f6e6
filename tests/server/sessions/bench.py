"""Sessions over a real engine whose device thread is the test, one turn at a time."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import jax

from saccade.model.events.types import Events
from saccade.server.engine.client import EngineClient
from saccade.server.engine.device import Device, RestartLimiter
from saccade.server.engine.engine import Engine
from saccade.server.engine.pool import InFlight
from saccade.server.engine.scheduler import Bucket
from saccade.server.protocol.conversation import Conversation, Limits
from saccade.server.protocol.messages import Open, Result
from saccade.server.sessions.session import Session, SessionHandle
from saccade.server.sessions.snapshots import Snapshot
from tests.faults import Fault
from tests.server.sessions.hearer import Hearer, say
from tests.toy import Recorder, toy_model

WINDOW = 200
LIMITS = Limits(
    max_frame_bytes=8 * WINDOW, window_events=WINDOW, window_bytes=8 * WINDOW
)


class Seat(Hearer):
    """One client: carrier of its session, and what it said and heard."""

    def __init__(self, model: Any, opening: Open) -> None:
        super().__init__()
        self.fed: list[Events] = []
        self.opening = opening
        self.conversation = Conversation(LIMITS)
        self.conversation.receive(opening)
        self.session = Session(self.conversation, model, opening, self)
        self.seq = 0
        self.watch()

    @property
    def holds_newest(self) -> bool:
        return self.session._intake._tokenizer._holds_newest

    @property
    def scores(self) -> list[float]:
        return [result.logits[0] for result in self.of(Result)]

    def send(self, events: Events) -> None:
        self.seq += 1
        say(self.conversation, self.session, self.seq, events)

    def watch(self) -> None:
        """Note what the tokenizer is fed."""
        tokenizer = self.session._intake._tokenizer
        feed = tokenizer.feed

        def fed(events: Events) -> Any:
            self.fed.append(events.copy())
            return feed(events)

        tokenizer.feed = fed  # type: ignore[method-assign]


class Bench:
    """An engine without its thread: compiled once, emptied for each run."""

    def __init__(self, slots: int = 3, places: int = 6) -> None:
        self._slots, self._places = slots, places
        self.fault = Fault()
        self._flight: InFlight | None = None
        self.engine: Engine | None = None

    def begin(self, timestep: Any = "preceding") -> None:
        """Compile if that was not done yet, and let every tenant go."""
        self.model = toy_model(timestep=timestep, advance=self.fault.advance)
        if self.engine is None:
            buckets = (Bucket(1, 1), Bucket(2, 4))
            self.engine = Engine(
                [self.model.servable], self._slots, buckets, 10_000, Recorder()
            )
            self.device._prepare_all()
            self.device._recoveries = RestartLimiter(most=10**9)
        self.streams = EngineClient(self.engine, self._places)
        self.device._deliver = self.streams.hear
        while self.turn():
            pass
        key = self.model.key
        ledger = self.engine._leases[key]
        self.device.pools[key].abandon()
        for slot in [*ledger._held]:
            ledger._held.remove(slot)
            ledger._free.append(slot)

    @property
    def device(self) -> Device:
        assert self.engine is not None
        return self.engine._device

    def turn(self) -> bool:
        """Do what the device thread does in one turn; tell whether there is more."""
        device = self.device
        device._obey(idle=False)
        self._flight = device._turn(self._flight)
        if self._flight is not None:  # so that a run is the same each time
            with suppress(jax.errors.JaxRuntimeError):
                jax.block_until_ready(self._flight.logits)
        return self._flight is not None or not device._commands.empty()

    def open(self, **choices: Any) -> Seat:
        """Open a session."""
        seat = Seat(self.model, Open("toy", **choices))
        seat.session.begin(self.streams)
        seat.session.welcome(SessionHandle("s"))
        return seat

    def resume(self, seat: Seat, snapshot: Snapshot) -> Seat:
        """Let a session go, and go on with it from a snapshot."""
        self.release(seat)
        again = Seat(self.model, seat.opening)
        again.session.resume(self.streams, snapshot, self.model)
        again.watch()
        again.session.welcome(SessionHandle("s", resumed=True))
        again.seq = again.conversation.ledger.sent.seq
        again.messages[:0] = seat.messages
        return again

    def release(self, seat: Seat) -> None:
        """End a session."""
        seat.session.release()

"""A session without socket, loop or device: its engine is a fake."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
from hypothesis import given, settings, strategies as st

from saccade.model.tokens import TimedTokens, TokenChunk
from saccade.server.engine.errors import BacklogFull, EngineFailed
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import TickScores
from saccade.server.protocol.conversation import Conversation, Limits
from saccade.server.protocol.messages import (
    Ack,
    Closed,
    Flush,
    Flushed,
    Open,
    Opened,
    Report,
    Reset,
    Result,
    WasReset,
)
from saccade.server.protocol.reporting import scores_of
from saccade.server.sessions.handle import SessionHandle
from saccade.server.sessions.session import Session
from saccade.server.sessions.session_input import (
    InputState,
    QueueLimits,
    SessionInput,
)
from saccade.server.sessions.snapshots import Snapshot, decode, encode
from tests.server.sessions.bench import RecordingSink, send_frame
from tests.toy import TICK, event_scores, some_events, toy_model

LEASE = Lease("toy", 0, 1)


class FakeEngine(RecordingSink):
    """Message sink, engine client and stream in one: records what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[int] = []
        self.resets = 0
        self.closed = 0

    def open(self, *_: Any) -> FakeEngine:
        return self

    def submit(self, chunk: TokenChunk) -> None:
        self.tokens += chunk.tokens.tolist()

    def deliver(self) -> None:
        pass

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.closed += 1


class Client:
    """Drives a session as the websocket would."""

    def __init__(self, **opened: Any) -> None:
        self.engine = FakeEngine()
        self.conversation = Conversation(Limits(max_frame_bytes=800, window_events=100))
        request = Open("toy", **opened)
        self.conversation.receive(request)
        self.session = Session(self.conversation, toy_model(), request, self.engine)
        self.session.begin(self.engine)  # type: ignore[arg-type]
        self.session.send_opened(SessionHandle("s1"))
        self.seq = 0
        self.scored = 0

    def send(self, events: Any) -> None:
        self.seq += 1
        send_frame(self.conversation, self.session, self.seq, events)

    def score(self, ticks: int, value: float = 1.0) -> None:
        logits = np.full((ticks, 2), value, np.float32) * [1, -1]
        t_us = np.arange(self.scored, self.scored + ticks)
        self.scored += ticks
        self.session.scored(TickScores(LEASE, logits, t_us, *scores_of(logits)))


def test_an_ack_waits_until_the_events_are_scored_or_in_the_open_tick() -> None:
    client = Client()
    client.send(some_events(1))
    assert client.engine.of(Ack) == [Ack(1, 1, 8)]
    client.send(some_events(4, start_us=100))
    assert len(client.engine.of(Ack)) == 1
    client.score(1)
    assert len(client.engine.of(Ack)) == 1
    client.score(1)
    assert client.engine.of(Ack)[-1] == Ack(2, 5, 40)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=9), st.data())
@settings(max_examples=40)
def test_messages_are_the_same_however_many_ticks_are_scored_in_a_step(
    frames: list[int], data: st.DataObject
) -> None:
    """An ack stands where it would between results that came one by one."""
    together, apart = Client(), Client()
    for number, size in enumerate(frames):
        for client in (together, apart):
            client.send(some_events(size, start_us=100 * number))
    left = sum(frames) // TICK
    while left:
        ticks = data.draw(st.integers(1, left))
        together.score(ticks)
        for _ in range(ticks):
            apart.score(1)
        left -= ticks
    assert together.engine.messages == apart.engine.messages
    assert together.session.newest is not None or sum(frames) < TICK


def test_a_flush_waits_for_its_own_ticks_and_no_later_ones() -> None:
    client = Client(report=Report("flush"))
    client.send(some_events(5))
    client.session.flush(Flush(1))
    client.send(some_events(6, start_us=100))
    assert client.engine.of(Flushed) == []
    client.score(2, 7.0)
    (flushed,) = client.engine.of(Flushed)
    assert (flushed.seq, flushed.ticks, flushed.pending) == (1, 2, 1)
    assert flushed.logits == [7.0, -7.0]


def test_a_session_over_its_window_is_congested_until_ticks_are_scored() -> None:
    client = Client()
    client.send(some_events(100))
    assert not client.session.congested
    client.send(some_events(2, start_us=5000))
    assert client.session.congested
    client.score(50)
    assert not client.session.congested


def test_after_a_reset_counts_begin_anew_and_acks_go_on() -> None:
    client = Client()
    client.send(some_events(3))
    client.score(1)
    assert client.session.drained
    client.conversation.receive(Reset(4))
    client.session.reset(Reset(4))
    assert client.engine.of(WasReset) == [WasReset(4)]
    assert client.engine.resets == 1
    client.send(some_events(2))
    client.score(1)
    assert client.engine.of(Result)[-1].ticks == 1
    assert client.engine.of(Ack)[-1] == Ack(2, 5, 40)


def test_a_session_without_a_tick_closes_without_scores() -> None:
    client = Client()
    client.session.close()
    (closed,) = client.engine.of(Closed)
    assert (closed.logits, closed.ticks, closed.pending) == (None, 0, 0)


def test_an_error_of_the_engine_is_sent_as_one_of_the_wire() -> None:
    client = Client()
    client.session.failed(EngineFailed("XlaRuntimeError"))
    client.session.failed(BacklogFull(1, 2, 3))
    assert [error.code for error in client.engine.errors] == [
        "engine_failed",
        "internal_error",
    ]


def test_a_slot_is_given_back_once_released() -> None:
    client = Client()
    client.session.release()
    assert client.engine.closed == 1
    assert client.engine.of(Opened)[0].session == "s1"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), max_size=25))
def test_sent_is_acked_plus_pending_and_tokens_arrive_once(
    turns: list[tuple[int, int]],
) -> None:
    client, sent = Client(), 0
    everything = some_events(250)
    for size, score in turns:
        client.send(everything[sent : sent + size])
        sent += size
        client.score(min(score, sent // 2 - client.scored))
        ledger = client.conversation.ledger
        assert ledger.acked.events + ledger.pending.events == sent
        # An event in the open tick is consumed already: at most one here.
        assert ledger.acked.events <= 2 * client.scored + 1
        if client.session.drained:
            assert ledger.pending.events == 0
    assert len(client.engine.tokens) == sent
    client.score(sent // 2 - client.scored)
    client.session.close()
    assert client.engine.of(Closed)[0].pending == sent % 2
    assert len(event_scores(everything[:sent])) == client.scored


def test_a_snapshot_of_the_version_before_is_read_and_goes_on_to_the_same_scores() -> (
    None
):
    model, events = toy_model(), some_events(9)
    timed = model.tokenization.timed(events)
    state = InputState(
        newest=TimedTokens(*(column[:1] for column in timed)),
        submitted=1,
        queued=TimedTokens(*(column[1:] for column in timed)),
        queued_bytes=64,
    )
    now = encode(Snapshot("s", Open("toy"), "hash", input=state))
    raw = msgpack.unpackb(now)
    raw |= {
        "format": 2,
        "newest": events[:1].tobytes(),
        "line": events[1:].tobytes(),
    }
    inputs = [SessionInput(model, QueueLimits(ticks=1)) for _ in range(2)]
    for each, data in zip(inputs, (now, msgpack.packb(raw)), strict=True):
        each.import_state(decode(data).input, 0)
    here, before = (each.export_state() for each in inputs)
    assert here.queued.tokens.tolist() == before.queued.tokens.tolist()
    assert here.queued.t_us.tolist() == before.queued.t_us.tolist()
    assert here.newest.t_us.tolist() == before.newest.t_us.tolist()

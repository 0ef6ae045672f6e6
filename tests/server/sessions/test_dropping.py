"""A live source that is faster than its engine: each dropped event is counted.

The real conversation, session, pool and scheduler, without a socket, a thread or a
clock: each step of the device is a move of the test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from saccade.model.events.types import Events
from saccade.model.tokens import NO_TOKENS, TimedTokens
from saccade.server.protocol.messages import Ack, Closed, Flush, Flushed, Reset, Result
from saccade.server.sessions.lead import MOST_TICKS
from saccade.server.sessions.snapshots import decode, encode
from tests.server.sessions.bench import WINDOW, Bench, BenchClient
from tests.toy import TICK, TOKENIZATION, event_scores, some_events, toy_scores

BENCH = Bench()


class Camera:
    """One live client, and all events that it has sent."""

    def __init__(self, client: BenchClient) -> None:
        self.client = client
        self.sent: list[Events] = []
        self.total = 0

    def film(self, count: int) -> None:
        events = some_events(count, seed=self.total, start_us=20 * self.total)
        self.total += count
        self.sent.append(events)
        self.client.send(events)

    @property
    def events(self) -> Events:
        return np.concatenate([*self.sent, some_events(0)])


def kept(client: BenchClient) -> TimedTokens:
    """The events that reached the gap counter."""
    columns = zip(*client.fed, NO_TOKENS, strict=True)
    return TimedTokens(*(np.concatenate(column) for column in columns))


class Flood(RuleBasedStateMachine):
    """Frames, steps of the device, flushes and lost connections, in any order."""

    @initialize(timestep=st.sampled_from(["preceding", "following"]))
    def open(self, timestep: Any) -> None:
        BENCH.begin(timestep)
        self.camera = Camera(BENCH.open(when_full="drop-oldest"))
        self.flushes = 0

    @rule(count=st.integers(0, WINDOW))
    def film(self, count: int) -> None:
        self.camera.film(count)

    @rule(steps=st.integers(1, 12))
    def let_the_device_run(self, steps: int) -> None:
        for _ in range(steps):
            BENCH.step()

    @rule()
    def flush(self) -> None:
        if not self.camera.client.session.congested:
            self.flushes += 1
            self.camera.client.session.flush(Flush(self.flushes))

    @rule()
    def lose_the_connection_and_resume(self) -> None:
        client = self.camera.client
        taken: list[Any] = []
        fed = list(client.fed)
        client.session.snapshot(taken.append)
        while not taken:
            BENCH.step()
        self.camera.client = BENCH.resume(client, decode(encode(taken[0])))
        self.camera.client.fed[:0] = fed

    @invariant()
    def sent_is_consumed_and_dropped_and_pending(self) -> None:
        client, total = self.camera.client, self.camera.total
        ledger, input = client.conversation.ledger, client.session._input
        consumed = input.ticks * TICK
        pending = input.unscored + input._gaps.held_back + len(input._queue)
        assert consumed + ledger.dropped + pending == total
        assert ledger.acked.events + ledger.pending.events == total
        assert ledger.dropped == input.dropped

    @invariant()
    def the_line_is_within_its_bounds_and_begins_with_a_tick(self) -> None:
        input = self.camera.client.session._input
        queue = input._queue
        assert len(queue) <= WINDOW
        assert queue.bytes <= 8 * WINDOW
        if len(queue):
            assert input.submitted % TICK == 0
            assert input.whole_ticks - input.ticks >= MOST_TICKS

    @invariant()
    def the_counts_only_grow_and_never_run_ahead(self) -> None:
        acks = self.camera.client.of(Ack)
        assert [a.dropped for a in acks] == sorted(a.dropped for a in acks)
        for result in self.camera.client.of(Result):
            assert result.events + result.dropped <= self.camera.total

    def teardown(self) -> None:
        if not hasattr(self, "camera"):
            return
        client, total = self.camera.client, self.camera.total
        while not client.session.drained:
            BENCH.step()
        client.session.close()
        (closed,) = client.of(Closed)
        assert closed.events + closed.dropped + closed.pending == total
        assert {f.id for f in client.of(Flushed)} == set(range(1, self.flushes + 1))
        tokens, t_us = (column[: closed.events] for column in kept(client))
        self.assert_whole_ticks_were_dropped(TimedTokens(tokens, t_us))
        self.assert_each_result_says_what_was_dropped_before_it(t_us)
        scores = toy_scores(tokens.tolist())
        assert np.allclose(client.scores[-1:], scores[-1:], rtol=1e-5)
        BENCH.release(client)

    def assert_whole_ticks_were_dropped(self, scored: TimedTokens) -> None:
        """Each scored tick is a stretch of what was filmed, in order of time."""
        filmed = TOKENIZATION.timed(self.camera.events)
        places = np.searchsorted(filmed.t_us, scored.t_us)
        assert np.array_equal(filmed.tokens[places], scored.tokens)
        for tick in np.diff(places)[: len(places) - 1 : TICK]:
            assert tick == 1 or self.camera.client.holds_newest

    def assert_each_result_says_what_was_dropped_before_it(self, t_us: Any) -> None:
        filmed = TOKENIZATION.timed(self.camera.events)
        places = np.searchsorted(filmed.t_us, t_us)
        for result in self.camera.client.of(Result):
            newest = result.events - 1
            assert result.dropped == places[newest] - newest


Flood.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
)
TestEveryDroppedEventIsCounted = Flood.TestCase


@pytest.fixture
def camera() -> Camera:
    BENCH.begin("preceding")
    return Camera(BENCH.open(when_full="drop-oldest"))


def test_nothing_is_dropped_while_the_engine_keeps_up(camera: Camera) -> None:
    for _ in range(30):
        camera.film(20)
        BENCH.run()
    assert camera.client.of(Ack)[-1].dropped == 0
    assert len(camera.client.scores) == 300


def test_a_stalled_engine_costs_the_oldest_ticks_and_the_reader_goes_on(
    camera: Camera,
) -> None:
    for _ in range(20):
        camera.film(WINDOW)
        assert not camera.client.session.congested
    dropped = 20 * WINDOW - WINDOW - MOST_TICKS * TICK
    assert camera.client.of(Ack)[-1].dropped == dropped
    BENCH.run()
    assert camera.client.session.drained
    newest = camera.events[-WINDOW:]
    assert camera.client.of(Result)[-1].t_us == newest["t"][-1]
    assert camera.client.of(Result)[-1].dropped == dropped
    expected = np.concatenate([camera.events[: MOST_TICKS * TICK], newest])
    assert camera.client.scores == pytest.approx(event_scores(expected))


def test_a_flush_keeps_what_waits_from_being_dropped(camera: Camera) -> None:
    camera.film(WINDOW)
    camera.film(WINDOW)
    camera.client.session.flush(Flush(1))
    before = camera.client.of(Ack)[-1].dropped
    for _ in range(3):
        camera.film(WINDOW)
    BENCH.run()
    (flushed,) = camera.client.of(Flushed)
    assert flushed.dropped == before
    assert flushed.events + flushed.dropped == 2 * WINDOW


def test_after_a_reset_dropped_events_are_counted_anew_but_for_acks(
    camera: Camera,
) -> None:
    camera.film(WINDOW)
    camera.film(WINDOW)
    BENCH.run()
    reported = camera.client.of(Result)[-1].dropped
    assert reported > 0
    camera.client.conversation.receive(Reset(1))
    camera.client.session.reset(Reset(1))
    camera.film(2)
    BENCH.run()
    assert camera.client.of(Result)[-1].dropped == 0
    assert camera.client.of(Ack)[-1].dropped == reported


def test_a_client_that_blocks_is_sent_no_count_of_dropped_events() -> None:
    BENCH.begin("preceding")
    client = BENCH.open()
    client.send(some_events(40))
    BENCH.run()
    assert client.of(Ack)[-1].dropped is None
    assert client.of(Result)[-1].dropped is None

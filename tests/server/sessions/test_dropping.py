"""A live source that is faster than its engine: nothing is lost without a word.

The real conversation, session, pool and scheduler, without a socket, a thread or a
clock: each turn of the device is a move of the test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from saccade.model.events.types import Events
from saccade.server.protocol.messages import Ack, Closed, Flush, Flushed, Reset, Result
from saccade.server.sessions.session_input import LEAD_TICKS
from saccade.server.sessions.snapshots import decode, encode
from tests.server.sessions.bench import WINDOW, Bench, Seat
from tests.toy import TICK, event_scores, some_events

BENCH = Bench()


class Camera:
    """One live client, and what it knows of its own events."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.sent: list[Events] = []
        self.total = 0

    def film(self, count: int) -> None:
        events = some_events(count, seed=self.total, start_us=20 * self.total)
        self.total += count
        self.sent.append(events)
        self.seat.send(events)

    @property
    def events(self) -> Events:
        return np.concatenate([*self.sent, some_events(0)])


def kept(seat: Seat) -> Events:
    """The events that reached the tokenizer, as it saw them."""
    return np.concatenate([*seat.fed, some_events(0)])


class Flood(RuleBasedStateMachine):
    """Frames, turns of the device, flushes and lost connections, in any order."""

    @initialize(timestep=st.sampled_from(["preceding", "following"]))
    def open(self, timestep: Any) -> None:
        BENCH.begin(timestep)
        self.camera = Camera(BENCH.open(when_full="drop-oldest"))
        self.flushes = 0

    @rule(count=st.integers(0, WINDOW))
    def film(self, count: int) -> None:
        self.camera.film(count)

    @rule(turns=st.integers(1, 12))
    def let_the_device_run(self, turns: int) -> None:
        for _ in range(turns):
            BENCH.turn()

    @rule()
    def flush(self) -> None:
        if not self.camera.seat.session.congested:
            self.flushes += 1
            self.camera.seat.session.flush(Flush(self.flushes))

    @rule()
    def lose_the_connection_and_come_back(self) -> None:
        seat = self.camera.seat
        taken: list[Any] = []
        fed = list(seat.fed)
        seat.session.snapshot(taken.append)
        while not taken:
            BENCH.turn()
        self.camera.seat = BENCH.resume(seat, decode(encode(taken[0])))
        self.camera.seat.fed[:0] = fed

    @invariant()
    def sent_is_consumed_and_dropped_and_pending(self) -> None:
        seat, total = self.camera.seat, self.camera.total
        ledger, intake = seat.conversation.ledger, seat.session._intake
        consumed = intake.ticks * TICK
        pending = intake.under_way + intake._tokenizer.held_back + len(intake._line)
        assert consumed + ledger.dropped + pending == total
        assert ledger.acked.events + ledger.pending.events == total
        assert ledger.dropped == intake.dropped

    @invariant()
    def the_line_is_within_its_bounds_and_begins_with_a_tick(self) -> None:
        intake = self.camera.seat.session._intake
        line = intake._line
        assert len(line) <= WINDOW
        assert line.bytes <= 8 * WINDOW
        if len(line):
            assert intake.submitted % TICK == 0
            assert intake.whole_ticks - intake.ticks >= LEAD_TICKS

    @invariant()
    def what_is_told_only_grows_and_never_runs_ahead(self) -> None:
        acks = self.camera.seat.of(Ack)
        assert [a.dropped for a in acks] == sorted(a.dropped for a in acks)
        for result in self.camera.seat.of(Result):
            assert result.events + result.dropped <= self.camera.total

    def teardown(self) -> None:
        if not hasattr(self, "camera"):
            return
        seat, total = self.camera.seat, self.camera.total
        while not seat.session.drained:
            BENCH.turn()
        seat.session.close()
        (closed,) = seat.of(Closed)
        assert closed.events + closed.dropped + closed.pending == total
        assert {f.id for f in seat.of(Flushed)} == set(range(1, self.flushes + 1))
        scored = kept(seat)[: closed.events]
        self.assert_whole_ticks_were_dropped(scored)
        assert np.allclose(seat.scores[-1:], event_scores(scored)[-1:], rtol=1e-5)
        BENCH.release(seat)

    def assert_whole_ticks_were_dropped(self, scored: Events) -> None:
        """Each scored tick is a stretch of what was filmed, in order of time."""
        places = np.searchsorted(self.camera.events["t"], scored["t"])
        assert np.array_equal(self.camera.events[places], scored)
        for tick in np.diff(places)[: len(places) - 1 : TICK]:
            assert tick == 1 or self.camera.seat.holds_newest


Flood.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
)
TestNothingIsLostWithoutAWord = Flood.TestCase


@pytest.fixture
def camera() -> Camera:
    BENCH.begin("preceding")
    return Camera(BENCH.open(when_full="drop-oldest"))


def test_nothing_is_dropped_while_the_engine_keeps_up(camera: Camera) -> None:
    for _ in range(30):
        camera.film(20)
        while BENCH.turn():
            pass
    assert camera.seat.of(Ack)[-1].dropped == 0
    assert len(camera.seat.scores) == 300


def test_a_stalled_engine_costs_the_oldest_ticks_and_the_reader_goes_on(
    camera: Camera,
) -> None:
    for _ in range(20):
        camera.film(WINDOW)
        assert not camera.seat.session.congested
    dropped = 20 * WINDOW - WINDOW - LEAD_TICKS * TICK
    assert camera.seat.of(Ack)[-1].dropped == dropped
    while BENCH.turn():
        pass
    assert camera.seat.session.drained
    newest = camera.events[-WINDOW:]
    assert camera.seat.of(Result)[-1].t_us == newest["t"][-1]
    assert camera.seat.of(Result)[-1].dropped == dropped
    expected = np.concatenate([camera.events[: LEAD_TICKS * TICK], newest])
    assert camera.seat.scores == pytest.approx(event_scores(expected))


def test_a_flush_keeps_what_waits_from_being_dropped(camera: Camera) -> None:
    camera.film(WINDOW)
    camera.film(WINDOW)
    camera.seat.session.flush(Flush(1))
    before = camera.seat.of(Ack)[-1].dropped
    for _ in range(3):
        camera.film(WINDOW)
    while BENCH.turn():
        pass
    (flushed,) = camera.seat.of(Flushed)
    assert flushed.dropped == before
    assert flushed.events + flushed.dropped == 2 * WINDOW


def test_after_a_reset_dropped_events_are_counted_anew_but_for_acks(
    camera: Camera,
) -> None:
    camera.film(WINDOW)
    camera.film(WINDOW)
    while BENCH.turn():
        pass
    told = camera.seat.of(Result)[-1].dropped
    assert told > 0
    camera.seat.conversation.receive(Reset(1))
    camera.seat.session.reset(Reset(1))
    camera.film(2)
    while BENCH.turn():
        pass
    assert camera.seat.of(Result)[-1].dropped == 0
    assert camera.seat.of(Ack)[-1].dropped == told


def test_a_client_that_blocks_never_hears_of_dropped_events() -> None:
    BENCH.begin("preceding")
    seat = BENCH.open()
    seat.send(some_events(40))
    while BENCH.turn():
        pass
    assert seat.of(Ack)[-1].dropped is None
    assert seat.of(Result)[-1].dropped is None

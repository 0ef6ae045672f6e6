"""Sessions outnumber slots, and none hears another's scores or goes on from its state.

Real sessions, streams, pool and scheduler; the device's turns are moves of the test.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from saccade.model.events.types import Events
from saccade.server.engine.errors import SlotsExhausted
from saccade.server.protocol.errors import SlotsExhausted as PlacesTaken
from saccade.server.protocol.messages import Closed, Flush, Flushed, Reset, Result
from saccade.server.sessions.snapshots import Snapshot, decode, encode
from tests.server.sessions.bench import Bench, Seat
from tests.toy import TICK, event_scores, some_events

SLOTS, PLACES = 2, 5
BENCH = Bench(SLOTS, PLACES)
QUANTUM = "saccade.server.engine.slot_allocator.QUANTUM_TICKS"
WHICH = st.integers(0, PLACES - 1)


class Guest:
    """One client with events of its own, and what it may come back with."""

    def __init__(self, seat: Seat, number: int) -> None:
        self.seat = seat
        self.number = number
        self.frames: list[Events] = []
        self.before = 0  # frames before the last reset
        self.saved: Snapshot | None = None
        self.checked = 0
        self.flushes: list[int] = []  # after how many frames each was asked for

    @property
    def events(self) -> Events:
        return np.concatenate([*self.frames[self.before :], some_events(0)])

    def film(self, count: int) -> None:
        start_us = 1000 * len(self.frames)
        seed = 1000 * self.number + len(self.frames)
        self.frames.append(some_events(count, seed=seed, start_us=start_us))
        self.seat.send(self.frames[-1])

    def check(self) -> None:
        """Every score is that of its own events, and nobody else's."""
        assert self.seat.errors == []
        expected = event_scores(self.events)
        results = self.seat.of(Result)
        for result in results[self.checked :]:
            assert result.logits[0] == pytest.approx(expected[result.ticks - 1])
        self.checked = len(results)
        assert self.seat.session._intake.ticks <= len(expected)


class Hotel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.guests: list[Guest] = []
        self.numbers = 0
        self.patch = mock.patch(QUANTUM, 3)
        self.patch.start()

    @initialize()
    def begin(self) -> None:
        BENCH.begin()

    @precondition(lambda self: len(self.guests) < PLACES)
    @rule()
    def open_a_session(self) -> None:
        self.numbers += 1
        self.guests.append(Guest(BENCH.open(), self.numbers))

    @precondition(lambda self: len(self.guests) == PLACES)
    @rule()
    def nobody_else_is_let_in(self) -> None:
        with pytest.raises(PlacesTaken):
            BENCH.open()

    @precondition(lambda self: self.guests)
    @rule(which=WHICH, count=st.integers(0, 12))
    def send(self, which: int, count: int) -> None:
        self.one(which).film(count)

    @precondition(lambda self: self.guests)
    @rule(which=WHICH)
    def flood(self, which: int) -> None:
        for _ in range(3):
            self.one(which).film(30)

    @rule(turns=st.integers(1, 4))
    def let_the_device_run(self, turns: int) -> None:
        for _ in range(turns):
            BENCH.turn()
        for guest in self.guests:
            guest.check()

    @precondition(lambda self: self.guests)
    @rule(which=WHICH)
    def flush(self, which: int) -> None:
        guest = self.one(which)
        guest.flushes.append(len(guest.frames))
        guest.seat.session.flush(Flush(len(guest.flushes)))

    @precondition(lambda self: self.guests)
    @rule(which=WHICH)
    def reset(self, which: int) -> None:
        guest = self.one(which)
        self.drain(guest)
        guest.check()
        guest.seat.conversation.receive(Reset(1))
        guest.seat.session.reset(Reset(1))
        guest.before, guest.saved = len(guest.frames), None

    @precondition(lambda self: self.guests)
    @rule(which=WHICH)
    def save(self, which: int) -> None:
        guest = self.one(which)

        def keep(snapshot: Snapshot | None) -> None:
            if snapshot is not None and snapshot.seq >= guest.before:
                guest.saved = decode(encode(snapshot))

        guest.seat.session.snapshot(keep)

    @precondition(lambda self: any(guest.saved for guest in self.guests))
    @rule(which=WHICH)
    def crash_and_come_back(self, which: int) -> None:
        guests = [guest for guest in self.guests if guest.saved]
        self.come_back(guests[which % len(guests)])

    @precondition(lambda self: self.guests)
    @rule(which=WHICH)
    def break_the_device(self, which: int) -> None:
        """Whoever is aboard is told, and comes back if it can; nobody else notices."""
        BENCH.fault.arm(1)
        self.one(which).film(2)
        while BENCH.fault.armed:
            BENCH.turn()
        BENCH.turn()
        for guest in [guest for guest in self.guests if guest.seat.errors]:
            (error,) = guest.seat.errors
            assert error.code == "engine_failed"
            if guest.saved is None:
                self.guests.remove(guest)
                BENCH.release(guest.seat)
            else:
                self.come_back(guest)

    @precondition(lambda self: self.guests)
    @rule(which=WHICH)
    def vanish(self, which: int) -> None:
        BENCH.release(self.guests.pop(which % len(self.guests)).seat)

    @precondition(lambda self: self.guests)
    @rule(which=WHICH)
    def close(self, which: int) -> None:
        guest = self.one(which)
        self.drain(guest)
        self.finish(guest)

    def teardown(self) -> None:
        self.patch.stop()
        for guest in [*self.guests]:
            self.drain(guest)
            self.finish(guest)
        assert BENCH.engine is not None
        assert BENCH.engine.slots_used("toy") == 0
        assert BENCH.streams.ashore("toy") == 0

    def one(self, which: int) -> Guest:
        return self.guests[which % len(self.guests)]

    def come_back(self, guest: Guest) -> None:
        """Go on from the snapshot, and say again what came after it."""
        assert guest.saved is not None
        known = guest.saved.seq
        guest.seat = BENCH.resume(guest.seat, guest.saved)
        for place in range(known, len(guest.frames) + 1):
            if place > known:
                guest.seat.send(guest.frames[place - 1])
            for number, asked in enumerate(guest.flushes, start=1):
                if asked == place:
                    guest.seat.session.flush(Flush(number))

    def drain(self, guest: Guest) -> None:
        """Wait as a client does; others may be busy all the while."""
        ahead = sum(one.seat.session._intake.waiting for one in self.guests)
        for _ in range(100 + 10 * ahead):
            if guest.seat.session.drained:
                return
            BENCH.turn()
        pytest.fail("a session waits in vain for a slot")

    def finish(self, guest: Guest) -> None:
        guest.check()
        guest.seat.session.close()
        (closed,) = guest.seat.of(Closed)
        ticks, pending = divmod(len(guest.events), TICK)
        assert (closed.ticks, closed.pending) == (ticks, pending)
        assert {flushed.id for flushed in guest.seat.of(Flushed)} == set(
            range(1, len(guest.flushes) + 1)
        )
        if ticks:
            scores = event_scores(guest.events)
            assert closed.logits[0] == pytest.approx(scores[-1])
        BENCH.release(guest.seat)
        self.guests.remove(guest)


Hotel.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
)
TestNoSessionHearsAnother = Hotel.TestCase


def test_an_idle_session_comes_back_to_its_own_state_bit_for_bit() -> None:
    """Scores with and without a stay ashore are the same floats."""
    first, rest = some_events(21, seed=1), some_events(20, seed=2, start_us=5000)
    heard: list[list[Any]] = []
    for neighbours in (0, SLOTS):
        BENCH.begin()
        seat = BENCH.open()
        seat.send(first)
        settle()
        others = [BENCH.open() for _ in range(neighbours)]
        for other in others:
            other.send(some_events(9, seed=3))
        settle()
        assert seat.session._intake.stream.aboard == (neighbours == 0)
        seat.send(rest)
        settle()
        heard.append([result.logits for result in seat.of(Result)])
        assert len(heard[-1]) == 20
    assert heard[0] == heard[1]


def test_where_all_are_busy_they_take_turns(monkeypatch: Any) -> None:
    monkeypatch.setattr(QUANTUM, 4)
    BENCH.begin()
    floods = [BENCH.open() for _ in range(SLOTS)]
    for n, flood in enumerate(floods):
        for frame in range(6):
            flood.send(some_events(30, seed=n, start_us=1000 * frame))
    slow = BENCH.open()
    slow.send(some_events(2, seed=7))
    while not slow.of(Result):
        assert BENCH.turn()
    assert any(not flood.session.drained for flood in floods)


def settle() -> None:
    while BENCH.turn():
        pass


def test_what_is_open_is_counted_and_given_back() -> None:
    BENCH.begin()
    seats = [BENCH.open() for _ in range(PLACES)]
    assert BENCH.streams.ashore("toy") == PLACES - SLOTS
    with pytest.raises(SlotsExhausted):
        BENCH.streams.open("toy", 1.0, seats[0].session)
    BENCH.release(seats[0])
    BENCH.open()

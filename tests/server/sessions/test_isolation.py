"""Sessions outnumber slots, and none receives another's scores or state.

Real sessions, streams, pool and scheduler; the device's steps are moves of the test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from saccade.model.events.types import Events
from saccade.server.engine.engine import OWN_PORT
from saccade.server.engine.errors import SlotsExhausted
from saccade.server.protocol.errors import SlotsExhausted as CapacityTaken
from saccade.server.protocol.messages import Closed, Flush, Flushed, Reset, Result
from saccade.server.sessions.snapshots import Snapshot, decode, encode
from tests.server.sessions.bench import QUICK_TICKS, Bench, BenchClient
from tests.toy import TICK, event_scores, some_events

SLOTS, CAPACITY = 2, 5
BENCH = Bench(SLOTS, CAPACITY)
AT_ONCE = Bench(SLOTS, CAPACITY, at_once=True)
BEHIND = "saccade.server.engine.pool.BEHIND_TICKS"
QUANTUM = "saccade.server.engine.slot_allocator.QUANTUM_TICKS"
WHICH = st.integers(0, CAPACITY - 1)


def where(condition: Callable[[Any], Any]) -> Callable[[Callable[..., None]], Any]:
    """Leave a rule's move out where a condition does not hold.

    It is no precondition: who fails, and what is saved, depends on how far XLA's
    threads are, and Hypothesis wants the same choice of rules each time.
    """

    def decorate(move: Callable[..., None]) -> Callable[..., None]:
        @wraps(move)
        def moved(self: Any, **drawn: Any) -> None:
            if condition(self):
                move(self, **drawn)

        return moved

    return decorate


class Sender:
    """One client with events of its own, and a snapshot that it may resume from."""

    def __init__(self, client: BenchClient, number: int) -> None:
        self.client = client
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
        self.client.send(self.frames[-1])

    def check(self) -> None:
        """Every score is that of its own events, and of no other's."""
        assert self.client.errors == []
        expected = event_scores(self.events)
        results = self.client.of(Result)
        for result in results[self.checked :]:
            assert result.logits[0] == pytest.approx(expected[result.ticks - 1])
        self.checked = len(results)
        assert self.client.session._input.ticks <= len(expected)


class MoreSessionsThanSlots(RuleBasedStateMachine):
    bench: ClassVar[Bench] = BENCH

    def __init__(self) -> None:
        super().__init__()
        self.senders: list[Sender] = []
        self.numbers = 0
        self.patches = [mock.patch(QUANTUM, 3), mock.patch(BEHIND, 0)]
        for patch in self.patches:
            patch.start()

    @initialize()
    def begin(self) -> None:
        self.bench.begin()

    @rule()
    @where(lambda self: len(self.senders) < CAPACITY)
    def open_a_session(self) -> None:
        self.numbers += 1
        self.senders.append(Sender(self.bench.open(), self.numbers))

    @rule()
    @where(lambda self: len(self.senders) == CAPACITY)
    def one_more_is_refused(self) -> None:
        with pytest.raises(CapacityTaken):
            self.bench.open()

    @rule(which=WHICH, count=st.integers(0, 12))
    @where(lambda self: self.senders)
    def send(self, which: int, count: int) -> None:
        self.one(which).film(count)

    @rule(which=WHICH)
    @where(lambda self: self.senders)
    def flood(self, which: int) -> None:
        for _ in range(3):
            self.one(which).film(30)

    @rule(steps=st.integers(1, 4))
    def let_the_device_run(self, steps: int) -> None:
        for _ in range(steps):
            self.bench.step()
        for sender in self.senders:
            sender.check()

    @rule(which=WHICH)
    @where(lambda self: self.senders)
    def flush(self, which: int) -> None:
        sender = self.one(which)
        sender.flushes.append(len(sender.frames))
        sender.client.session.flush(Flush(len(sender.flushes)))

    @rule(which=WHICH)
    @where(lambda self: self.senders)
    def reset(self, which: int) -> None:
        sender = self.one(which)
        self.drain(sender)
        sender.check()
        sender.client.conversation.receive(Reset(1))
        sender.client.session.reset(Reset(1))
        sender.before, sender.saved = len(sender.frames), None

    @rule(which=WHICH)
    @where(lambda self: self.senders)
    def save(self, which: int) -> None:
        sender = self.one(which)

        def keep(snapshot: Snapshot | None) -> None:
            if snapshot is not None and snapshot.seq >= sender.before:
                sender.saved = decode(encode(snapshot))

        sender.client.session.snapshot(keep)

    @rule(which=WHICH)
    @where(lambda self: any(sender.saved for sender in self.senders))
    def crash_and_resume(self, which: int) -> None:
        senders = [sender for sender in self.senders if sender.saved]
        self.resume(senders[which % len(senders)])

    @rule(which=WHICH)
    @where(lambda self: self.senders)
    def break_the_device(self, which: int) -> None:
        """Resident sessions fail, and resume if they can; the others go on."""
        self.bench.fault.arm(1)
        self.one(which).film(2)
        while self.bench.fault.armed:
            self.bench.step()
        self.bench.step()
        for sender in [sender for sender in self.senders if sender.client.errors]:
            (error,) = sender.client.errors
            assert error.code == "engine_failed"
            if sender.saved is None:
                self.senders.remove(sender)
                self.bench.release(sender.client)
            else:
                self.resume(sender)

    @rule(which=WHICH)
    @where(lambda self: self.senders)
    def disconnect(self, which: int) -> None:
        self.bench.release(self.senders.pop(which % len(self.senders)).client)

    @rule(which=WHICH)
    @where(lambda self: self.senders)
    def close(self, which: int) -> None:
        sender = self.one(which)
        self.drain(sender)
        self.finish(sender)

    def teardown(self) -> None:
        for patch in self.patches:
            patch.stop()
        for sender in [*self.senders]:
            self.drain(sender)
            self.finish(sender)
        assert self.bench.engine is not None
        assert self.bench.engine.slots_used("toy") == 0
        assert self.bench.client.swapped_out("toy") == 0

    def one(self, which: int) -> Sender:
        return self.senders[which % len(self.senders)]

    def resume(self, sender: Sender) -> None:
        """Resume from the snapshot, and send again what came after it."""
        assert sender.saved is not None
        known = sender.saved.seq
        sender.client = self.bench.resume(sender.client, sender.saved)
        for place in range(known, len(sender.frames) + 1):
            if place > known:
                sender.client.send(sender.frames[place - 1])
            for number, asked in enumerate(sender.flushes, start=1):
                if asked == place:
                    sender.client.session.flush(Flush(number))

    def drain(self, sender: Sender) -> None:
        """Wait as a client does; others may be busy all the while."""
        ahead = sum(one.client.session._input.waiting for one in self.senders)
        for _ in range(100 + 10 * ahead):
            if sender.client.session.drained:
                return
            self.bench.step()
        pytest.fail("a session waits in vain for a slot")

    def finish(self, sender: Sender) -> None:
        sender.check()
        sender.client.session.close()
        (closed,) = sender.client.of(Closed)
        ticks, pending = divmod(len(sender.events), TICK)
        assert (closed.ticks, closed.pending) == (ticks, pending)
        assert {flushed.id for flushed in sender.client.of(Flushed)} == set(
            range(1, len(sender.flushes) + 1)
        )
        if ticks:
            scores = event_scores(sender.events)
            assert closed.logits[0] == pytest.approx(scores[-1])
        self.bench.release(sender.client)
        self.senders.remove(sender)


MoreSessionsThanSlots.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
)
TestNoSessionReceivesAnotherSScores = MoreSessionsThanSlots.TestCase


class ScoredAtOnce(MoreSessionsThanSlots):
    """The same where the ticks of quiet sessions do not wait for the device."""

    bench = AT_ONCE


ScoredAtOnce.TestCase.settings = MoreSessionsThanSlots.TestCase.settings
TestNorWhereSomeAreScoredAtOnce = ScoredAtOnce.TestCase


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(BEHIND, 0)
    AT_ONCE.begin()
    return AT_ONCE


def film(client: BenchClient, ticks: int, seed: int) -> Events:
    """Send some ticks."""
    events = some_events(TICK * ticks, seed=seed, start_us=10_000 * seed)
    client.send(events)
    return events


def test_a_quiet_session_is_scored_at_once_and_the_device_goes_on_from_there(
    at_once: Bench,
) -> None:
    client, sent = at_once.open(), []
    for number, ticks in enumerate([1, QUICK_TICKS, QUICK_TICKS + 1, 2, 1]):
        before, scored = at_once.at_once, len(client.of(Result))
        sent.append(film(client, ticks, number))
        quick = number > 0 and ticks <= QUICK_TICKS
        assert at_once.at_once - before == quick
        assert len(client.of(Result)) - scored == (ticks if quick else 0)
        at_once.run()
    expected = event_scores(np.concatenate(sent))
    assert client.scores == pytest.approx(expected)
    at_once.release(client)


def test_a_snapshot_holds_what_was_scored_at_once_and_nothing_later(
    at_once: Bench,
) -> None:
    client, saved, sent = at_once.open(), [], []
    for number in range(6):
        sent.append(film(client, 2, 2 * number))
        if number == 3:
            client.session.snapshot(saved.append)
            before = at_once.at_once
            sent.append(film(client, 1, 2 * number + 1))
            assert at_once.at_once == before, "the row is on its way to the host"
        at_once.run()
    (snapshot,) = saved
    resumed = at_once.resume(client, decode(encode(snapshot)))
    resumed.messages.clear()
    for events in sent[4:]:
        resumed.send(events)
    at_once.run()
    expected = event_scores(np.concatenate(sent))
    assert resumed.scores == pytest.approx(expected[8:])
    at_once.release(resumed)


def test_a_row_that_waits_for_the_event_loop_is_handled_before_later_ticks(
    at_once: Bench,
) -> None:
    client, saved, came = at_once.open(), [], []
    film(client, 1, 0)
    at_once.run()
    at_once.device.connect(OWN_PORT, came.extend)
    client.session.snapshot(saved.append)
    at_once.run()
    at_once.client._turns.add(at_once.client.frontend.receive(came))
    before = at_once.at_once
    film(client, 1, 1)
    assert at_once.at_once == before
    at_once.client.receive([])
    (snapshot,) = saved
    assert snapshot is not None
    assert snapshot.last.ticks == 1
    at_once.device.connect(OWN_PORT, at_once.client.receive)
    at_once.run()
    assert len(client.of(Result)) == 2
    at_once.release(client)


def test_nothing_is_scored_at_once_while_little_waits_for_the_device() -> None:
    AT_ONCE.begin()
    client, before = AT_ONCE.open(), AT_ONCE.at_once
    for number in range(3):
        film(client, 1, number)
        AT_ONCE.run()
    assert AT_ONCE.at_once == before
    AT_ONCE.release(client)


def test_a_session_whose_row_is_lost_is_not_scored_at_once(at_once: Bench) -> None:
    client, other = at_once.open(), at_once.open()
    film(client, 1, 0)
    film(other, 1, 0)
    at_once.run()
    at_once.device._recover(at_once.model.key, RuntimeError("the device is gone"))
    before = at_once.at_once
    film(client, 1, 1)
    assert at_once.at_once == before
    at_once.run()
    assert [error.code for error in client.errors] == ["engine_failed"]
    assert len(client.of(Result)) == 1
    for each in (client, other):
        at_once.release(each)


def test_an_idle_session_is_swapped_in_to_its_own_state_bit_for_bit() -> None:
    """Scores with and without being swapped out are the same floats."""
    first, rest = some_events(21, seed=1), some_events(20, seed=2, start_us=5000)
    received: list[list[Any]] = []
    for neighbours in (0, SLOTS):
        BENCH.begin()
        client = BENCH.open()
        client.send(first)
        BENCH.run()
        others = [BENCH.open() for _ in range(neighbours)]
        for other in others:
            other.send(some_events(9, seed=3))
        BENCH.run()
        assert client.session._input.stream.resident == (neighbours == 0)
        client.send(rest)
        BENCH.run()
        received.append([result.logits for result in client.of(Result)])
        assert len(received[-1]) == 20
    assert received[0] == received[1]


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
        assert BENCH.step()
    assert any(not flood.session.drained for flood in floods)


def test_open_streams_are_counted_and_make_room_when_they_end() -> None:
    BENCH.begin()
    clients = [BENCH.open() for _ in range(CAPACITY)]
    assert BENCH.client.swapped_out("toy") == CAPACITY - SLOTS
    with pytest.raises(SlotsExhausted):
        BENCH.client.open("toy", 1.0, clients[0].session)
    BENCH.release(clients[0])
    BENCH.open()

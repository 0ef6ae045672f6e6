"""No sequence of opens, resets, crashes, resumes and slot reuse mixes two sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from saccade.server.engine.engine import OWN_PORT, Engine
from saccade.server.engine.errors import EngineFailed
from saccade.server.engine.in_flight import InFlight
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import ExportedState, RowState, TickScores
from saccade.server.engine.scheduler import Bucket
from tests.toy import Recorder, chunk, toy_scores, toy_servable

SLOTS = 3
BUCKETS = (Bucket(1, 1), Bucket(2, 1), Bucket(2, 4))
ENGINE = Engine([toy_servable()], SLOTS, BUCKETS, 10_000, Recorder())


def prepared() -> Engine:
    """Compile once for all the machine's runs; each begins without sessions."""
    device, frontend = ENGINE.devices.members[0].device, ENGINE.frontend
    if device.pools["toy"]._executables is None:
        device._prepare_all()
        device._restarts._most = 10**9
    for resident in [*frontend._models["toy"].residents.values()]:
        frontend.release(resident.lease)
    return ENGINE


class Sessions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine = prepared()
        self.frontend = self.engine.frontend
        self.device = self.engine.devices.members[0].device
        self.device.connect(OWN_PORT, self.receive)
        self.open: list[Lease] = []
        self.sent: dict[Lease, list[int]] = {}
        self.scored: dict[Lease, int] = {}
        self.flight: InFlight | None = None
        self.saved: dict[Lease, tuple[RowState, list[int], int]] = {}
        self.away: list[tuple[RowState, list[int], int]] = []

    @precondition(lambda self: len(self.open) < SLOTS)
    @rule()
    def open_a_session(self) -> None:
        self.begin(self.frontend.open("toy", float("inf")))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9), tokens=st.lists(st.integers(0, 10**6), max_size=12))
    def send_events(self, which: int, tokens: list[int]) -> None:
        lease = self.open[which % len(self.open)]
        self.sent[lease] += tokens
        self.frontend.submit(lease, chunk(tokens))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9))
    def reset(self, which: int) -> None:
        old = self.open.pop(which % len(self.open))
        self.saved.pop(old, None)
        self.begin(self.frontend.reset(old, float("inf")))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        lease = self.open.pop(which % len(self.open))
        self.frontend.release(lease)
        self.saved.pop(lease, None)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9))
    def save_a_row(self, which: int) -> None:
        lease = self.open[which % len(self.open)]
        tokens = list(self.sent[lease])

        def done(row: RowState) -> None:
            assert 2 * self.scored[lease] + len(row.waiting.tokens) == len(tokens)
            self.saved[lease] = (row, tokens, self.scored[lease])

        self.frontend.export(lease, done)

    @precondition(lambda self: self.saved)
    @rule(which=st.integers(0, 9))
    def lose_a_session_after_it_was_saved(self, which: int) -> None:
        lease = [*self.saved][which % len(self.saved)]
        self.away.append(self.saved[lease])
        self.open.remove(lease)
        self.frontend.release(lease)
        del self.saved[lease]

    @precondition(lambda self: self.away and len(self.open) < SLOTS)
    @rule(which=st.integers(0, 9))
    def resume(self, which: int) -> None:
        row, tokens, ticks = self.away.pop(which % len(self.away))
        lease = self.frontend.restore("toy", row)
        self.open.append(lease)
        self.sent[lease], self.scored[lease] = list(tokens), ticks

    @rule()
    def crash(self) -> None:
        """Lose every session that is open; those that were saved may come back."""
        self.device._take_work(idle=False)
        self.device._recover("toy", EngineFailed("a test"))
        self.away += self.saved.values()
        self.saved.clear()
        for lease in self.open:
            self.frontend.release(lease)
        self.open.clear()
        self.step_of_the_device_thread()

    @rule()
    def step_of_the_device_thread(self) -> None:
        self.device._take_work(idle=False)
        self.flight = self.device._step(self.flight)

    def teardown(self) -> None:
        pool = self.device.pools["toy"]
        while (
            self.flight is not None
            or pool.ticks_waiting
            or not self.device._work.empty()
        ):
            self.step_of_the_device_thread()
        for lease in self.open:
            assert self.scored[lease] == len(self.sent[lease]) // 2
        arena = self.frontend._models["toy"].arena
        residents = self.frontend._models["toy"].residents.values()
        assert arena.used == sum(one.open_page is not None for one in residents)

    def begin(self, lease: Lease) -> None:
        self.open.append(lease)
        self.sent[lease], self.scored[lease] = [], 0

    def receive(self, outputs: Any) -> None:
        for output in self.frontend.receive(outputs):
            if isinstance(output, TickScores):
                self.check(*output[:3])
            elif isinstance(output, ExportedState):
                output.done(output.row)

    def check(self, lease: Lease, logits: Any, t_us: Any) -> None:
        first = self.scored[lease]
        self.scored[lease] += len(logits)
        expected = toy_scores(self.sent[lease])[first : first + len(logits)]
        assert len(logits) == len(t_us) == len(expected)
        assert np.allclose(logits[:, 0], expected, rtol=1e-5)


Sessions.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
)
TestNoSessionReceivesAnotherSScores = Sessions.TestCase

"""No sequence of opens, resets, crashes, resumes and slot reuse mixes two sessions."""

from __future__ import annotations

import numpy as np
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from saccade.server.engine.leases import Lease, Leases
from saccade.server.engine.outputs import RowState, read_export
from saccade.server.engine.pool import InFlight, Pool, read_scores
from saccade.server.engine.scheduler import Bucket
from tests.toy import chunk, toy_scores, toy_servable

SLOTS = 3
POOL = Pool(toy_servable(), SLOTS, (Bucket(1, 1), Bucket(2, 1), Bucket(2, 4)), 10_000)


def prepared() -> Pool:
    """Compile once for all the machine's runs; each begins without sessions."""
    if POOL._executables is None:
        POOL.prepare(lambda _: None)
    POOL.evict_all()
    return POOL


class Sessions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = prepared()
        self.leases = Leases("toy", SLOTS)
        self.open: list[Lease] = []
        self.sent: dict[Lease, list[int]] = {}
        self.scored: dict[Lease, int] = {}
        self.flight: InFlight | None = None
        self.saved: dict[Lease, tuple[RowState, list[int], int]] = {}
        self.away: list[tuple[RowState, list[int], int]] = []
        self.at_export: dict[Lease, list[int]] = {}

    @precondition(lambda self: len(self.open) < SLOTS)
    @rule()
    def open_a_session(self) -> None:
        self.begin(self.leases.acquire())

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9), tokens=st.lists(st.integers(0, 10**6), max_size=12))
    def send_events(self, which: int, tokens: list[int]) -> None:
        lease = self.open[which % len(self.open)]
        self.sent[lease] += tokens
        self.pool.submit(lease, chunk(tokens))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9))
    def reset(self, which: int) -> None:
        old = self.open.pop(which % len(self.open))
        self.saved.pop(old, None)
        self.begin(self.leases.renew(old))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        lease = self.open.pop(which % len(self.open))
        self.leases.release(lease)
        self.pool.release(lease)
        self.saved.pop(lease, None)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9))
    def save_a_row(self, which: int) -> None:
        lease = self.open[which % len(self.open)]
        self.at_export[lease] = list(self.sent[lease])
        self.pool.export(lease, lambda row: None)
        self.step_of_the_device_thread()

    @precondition(lambda self: self.saved)
    @rule(which=st.integers(0, 9))
    def lose_a_session_after_it_was_saved(self, which: int) -> None:
        lease = [*self.saved][which % len(self.saved)]
        self.away.append(self.saved[lease])
        self.open.remove(lease)
        self.leases.release(lease)
        self.pool.release(lease)
        del self.saved[lease]

    @precondition(lambda self: self.away and len(self.open) < SLOTS)
    @rule(which=st.integers(0, 9))
    def resume(self, which: int) -> None:
        row, tokens, ticks = self.away.pop(which % len(self.away))
        lease = self.leases.acquire()
        self.pool.restore(lease, row)
        self.open.append(lease)
        self.sent[lease], self.scored[lease] = list(tokens), ticks

    @rule()
    def crash(self) -> None:
        """Lose every session that is open; those that were saved may come back."""
        self.away += self.saved.values()
        self.saved.clear()
        for lease in self.open:
            self.leases.release(lease)
        self.open.clear()
        self.flight = None
        self.pool.evict_all()

    @rule()
    def step_of_the_device_thread(self) -> None:
        exports = self.pool.take_exports()
        launched = self.pool.launch()
        if self.flight is not None:
            self.check(self.flight)
        for export in exports:
            lease, row, _ = read_export(export)
            if lease in self.open:
                tokens = self.at_export[lease]
                assert 2 * self.scored[lease] + len(row.waiting.tokens) == len(tokens)
                self.saved[lease] = (row, tokens, self.scored[lease])
        self.flight = launched

    def teardown(self) -> None:
        while self.flight is not None or self.pool.ticks_waiting:
            self.step_of_the_device_thread()
        for lease in self.open:
            assert self.scored[lease] == len(self.sent[lease]) // 2

    def begin(self, lease: Lease) -> None:
        self.pool.insert(lease, float("inf"))
        self.open.append(lease)
        self.sent[lease], self.scored[lease] = [], 0

    def check(self, flight: InFlight) -> None:
        for lease, logits, t_us in read_scores(flight):
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

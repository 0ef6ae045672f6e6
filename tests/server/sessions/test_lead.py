"""The lead of a session under a fake clock and engines of known speed and delay."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings, strategies as st

from saccade.server.sessions.lead import (
    FIRST_EVENTS,
    FIRST_TICKS,
    LEAST_TICKS,
    MOST_TICKS,
    SETTLE_S,
    Lead,
    first_ticks,
)

STEP_S = 0.001
ALLOWED_S = 0.04


class Engine:
    """Scores ticks at a rate, and delivers their scores some time later."""

    def __init__(self, ticks_per_s: float, delay_s: float) -> None:
        self.ticks_per_s = ticks_per_s
        self.delay_s = delay_s
        self._room = 0.0
        self._waiting = 0
        self._leaving: deque[tuple[int, float]] = deque()
        self.total = 0

    def take(self, ticks: int) -> None:
        """Queue ticks."""
        self._waiting += ticks

    def scored(self, now_s: float) -> int:
        """Work for one step; return the ticks in all whose scores have arrived."""
        self._room += self.ticks_per_s * STEP_S
        done = min(self._waiting, int(self._room))
        self._waiting -= done
        self._room = min(self._room - done, 1.0)
        if done:
            self._leaving.append((done, now_s + self.delay_s))
        while self._leaving and self._leaving[0][1] <= now_s:
            self.total += self._leaving.popleft()[0]
        return self.total


def flood(lead: Lead, engine: Engine, steps: int, begin: int = 0) -> int:
    """Give an engine all that the lead allows; return the ticks scored."""
    before = engine.total
    given_ = engine.total + engine._waiting + sum(n for n, _ in engine._leaving)
    for number in range(begin, begin + steps):
        now_s = number * STEP_S
        more = max(0, lead.ticks - (given_ - engine.total))
        engine.take(more)
        given_ += more
        lead.given(given_, now_s)
        lead.scored(engine.scored(now_s + STEP_S), now_s + STEP_S)
    return engine.total - before


@settings(max_examples=60)
@given(st.integers(100, 1500), st.floats(0.002, 0.03))
def test_the_engine_is_kept_busy_whatever_its_speed_and_delay(
    ticks_per_s: int, delay_s: float
) -> None:
    lead, engine = Lead(ALLOWED_S), Engine(ticks_per_s, delay_s)
    flood(lead, engine, 1000)
    able = min(ticks_per_s, 0.6 * MOST_TICKS / (delay_s + 2 * STEP_S))
    assert flood(lead, engine, 1000, 1000) >= 0.8 * able


@settings(max_examples=60)
@given(st.integers(100, 5000))
def test_ticks_do_not_wait_for_much_longer_than_they_may(ticks_per_s: int) -> None:
    lead, engine = Lead(ALLOWED_S), Engine(ticks_per_s, 0.002)
    flood(lead, engine, 2000)
    assert lead.ticks <= max(1.5 * ALLOWED_S * ticks_per_s, LEAST_TICKS)


def test_an_engine_that_slows_down_is_given_less_and_more_once_it_is_fast() -> None:
    lead, engine = Lead(ALLOWED_S), Engine(1000, 0.002)
    flood(lead, engine, 1000)
    fast = lead.ticks
    engine.ticks_per_s = 100
    flood(lead, engine, 2000, 1000)
    slow = lead.ticks
    engine.ticks_per_s = 1000
    flood(lead, engine, 2000, 3000)
    assert slow <= 8 < 30 <= min(fast, lead.ticks)


def test_one_stall_costs_one_cut() -> None:
    lead = Lead(ALLOWED_S, 32)
    for tick in range(1, 33):
        lead.given(tick, 0.0)
    for tick in range(1, 33):
        lead.scored(tick, 1.0 + tick / 1000)
    assert lead.ticks == 16


def test_a_lead_that_is_not_used_does_not_grow() -> None:
    lead = Lead(ALLOWED_S, 8)
    for tick in range(1, 100):
        lead.given(tick, float(tick))
        lead.scored(tick, tick + 0.001)
    assert lead.ticks == 8


def test_a_lead_without_a_bound_stays() -> None:
    lead = Lead(float("inf"), MOST_TICKS)
    lead.given(64, 0.0)
    lead.scored(64, 1000.0)
    lead.reset()
    lead.given(1, 1001.0)
    lead.scored(1, 9000.0)
    assert lead.ticks == MOST_TICKS


def test_a_lead_that_is_all_given_need_not_be_looked_at_for_a_while() -> None:
    lead = Lead(0.04, 4)
    assert not lead.saturated(0.0)
    lead.given(3, 0.0)
    assert not lead.saturated(0.0)
    lead.given(4, 0.001)
    assert lead.saturated(0.001 + 0.9 * SETTLE_S)
    assert not lead.saturated(0.001 + 1.1 * SETTLE_S)
    lead.scored(1, 0.02)
    assert not lead.saturated(0.02)


@given(st.integers(1, 1 << 20))
def test_a_lead_begins_with_about_a_frame(tick_events: int) -> None:
    ticks = first_ticks(tick_events)
    assert LEAST_TICKS <= ticks <= FIRST_TICKS
    assert ticks == LEAST_TICKS or ticks * tick_events <= FIRST_EVENTS

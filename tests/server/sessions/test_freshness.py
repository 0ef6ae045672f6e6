"""The controller of freshness under a fake clock and a server of known rates."""

from __future__ import annotations

import math
from collections import deque

import pytest
from hypothesis import given, settings, strategies as st

from saccade.server.sessions.freshness import FIRST_TICKS, Arrivals, Freshness
from saccade.server.sessions.lead import LEAST_TICKS, Lead

TICK = 100
WINDOW = 1_000_000
STEP_S = 0.002


def controller(max_lag_s: float = 0.1) -> Freshness:
    return Freshness(max_lag_s, TICK, WINDOW)


def test_a_session_without_a_bound_may_use_its_whole_window() -> None:
    fresh = controller(math.inf)
    fresh.came(5000, 0.0)
    fresh.scored(100, 1.0)
    assert fresh.window == WINDOW
    assert fresh.overdue(0, 100.0) == 0
    assert fresh.late == 0


def test_before_a_rate_is_known_a_few_ticks_may_be_under_way() -> None:
    assert controller().window == FIRST_TICKS * TICK
    assert Freshness(0.1, TICK, 500).window == 500


def test_the_window_follows_the_rate_and_never_keeps_a_session_from_going_on() -> None:
    fresh, now_s = controller(), 0.0
    for _ in range(100):
        fresh.came(1000, now_s)
        now_s += 0.01
        fresh.scored(1000, now_s)
    assert fresh.rate == pytest.approx(100_000)
    assert 4_500 <= fresh.window <= 5_500
    for _ in range(20):
        fresh.came(100, now_s)
        now_s += 1.0
        fresh.scored(100, now_s)
    assert fresh.window == LEAST_TICKS * TICK


def test_time_without_work_is_not_time_of_work() -> None:
    fresh = controller()
    for second in range(10):
        fresh.came(1000, float(second))
        fresh.scored(1000, second + 0.01)
    assert fresh.rate == pytest.approx(100_000)


def test_lag_is_the_age_of_the_oldest_event_of_a_whole_tick() -> None:
    fresh = controller()
    fresh.came(TICK - 1, 1.0)
    assert fresh.lag_s(2.0) == 0
    fresh.came(2, 1.5)
    assert fresh.lag_s(2.0) == pytest.approx(1.0)
    assert fresh.scored(TICK, 2.0) == pytest.approx(0.5)
    assert fresh.lag_s(2.0) == 0
    assert fresh.late == TICK


def test_whole_ticks_that_would_be_late_are_dropped_and_the_newest_is_kept() -> None:
    fresh = controller()
    fresh.came(250, 0.0)
    fresh.came(230, 0.2)
    assert fresh.overdue(0, 0.21) == 300  # the third tick holds late events, too
    assert fresh.overdue(100, 0.21) == 200
    fresh.dropped(100, 200)
    assert fresh.under_way == 280
    assert fresh.overdue(100, 0.21) == 0
    assert fresh.lag_s(0.21) == pytest.approx(0.21)  # of what the engine has


def test_a_rate_recovers_soon_after_a_stall() -> None:
    fresh, now_s = controller(), 0.0
    fresh.came(100, now_s)
    now_s += 60.0
    fresh.scored(100, now_s)
    for _ in range(30):
        fresh.came(1000, now_s)
        assert fresh.overdue(0, now_s) == 0, "an idle engine is given nothing"
        now_s += 0.01
        fresh.scored(1000, now_s)
    assert fresh.rate == pytest.approx(100_000, rel=0.1)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["add", "take", "drop"]), st.integers(0, 50), st.integers(0, 50)
    ),
    max_size=60,
)


@given(MOVES)
def test_arrivals_are_those_of_a_list_of_single_events(
    moves: list[tuple[str, int, int]],
) -> None:
    arrivals, single, now_s = Arrivals(), deque[float](), 0.0
    for move, count, ahead in moves:
        now_s += 0.01
        if move == "add":
            arrivals.add(count, now_s)
            single.extend([now_s] * count)
        elif move == "take":
            taken = [single.popleft() for _ in range(min(count, len(single)))]
            assert arrivals.take(count) == (taken[-1] if taken else None)
        else:
            arrivals.drop(ahead, count)
            kept = [*single]
            del kept[ahead : ahead + count]
            single = deque(kept)
        assert arrivals.events == len(single)
        assert arrivals.oldest_s() == (single[0] if single else None)
        late = [came_s for came_s in [*single][ahead:] if came_s < now_s - 0.1]
        assert arrivals.before(now_s - 0.1, ahead) == len(late)


RATES = st.lists(st.integers(5_000, 400_000), min_size=1, max_size=4)


def worked(rates: list[int], number: int) -> float:
    """Events that the simulated server scores in one step."""
    return rates[number * len(rates) // 1000] * STEP_S


@settings(max_examples=40)
@given(RATES)
def test_who_keeps_to_the_window_stays_within_the_lag_once_a_rate_is_steady(
    rates: list[int],
) -> None:
    fresh, room = controller(), 0.0
    for number in range(1000):
        now_s = number * STEP_S
        fresh.came(max(0, fresh.window - fresh.under_way), now_s)
        room += worked(rates, number)
        ticks = min(int(room), fresh.under_way) // TICK
        room -= ticks * TICK
        fresh.scored(ticks * TICK, now_s + STEP_S)
        steady = number % (1000 // len(rates)) > 400 // len(rates)
        slowest_s = LEAST_TICKS * TICK / min(rates)
        if steady and len(rates) == 1:
            assert fresh.lag_s(now_s + STEP_S) <= max(0.1, 1.5 * slowest_s) + 2 * STEP_S
    assert fresh.window <= max(LEAST_TICKS * TICK, 0.1 * max(rates) * 1.2)


@settings(max_examples=40)
@given(st.integers(10_000, 400_000), st.floats(0.5, 8.0))
def test_what_a_live_source_sends_is_scored_in_time_or_dropped_and_all_is_counted(
    rate: int, overload: float
) -> None:
    fresh, lead, queued, given_ = controller(), Lead(0.04), 0, 0
    sent = scored = dropped = 0
    room = 0.0
    for number in range(500):
        now_s = number * STEP_S
        events = int(rate * overload * STEP_S)
        fresh.came(events, now_s)
        sent, queued = sent + events, queued + events
        late = fresh.overdue(given_, now_s)
        fresh.dropped(given_, late)
        queued, dropped = queued - late, dropped + late
        more = max(0, min(queued // TICK * TICK, lead.ticks * TICK - given_))
        queued, given_ = queued - more, given_ + more
        lead.given((scored + given_) // TICK, now_s)
        room = min(room + rate * STEP_S, rate * STEP_S + TICK)
        ticks = min(int(room), given_) // TICK
        room -= ticks * TICK
        fresh.scored(ticks * TICK, now_s + STEP_S)
        scored, given_ = scored + ticks * TICK, given_ - ticks * TICK
        lead.scored(scored // TICK, now_s + STEP_S)
        assert sent == scored + dropped + queued + given_
        assert fresh.under_way == queued + given_
    assert fresh.late == 0
    if overload > 1.5:
        assert scored >= 0.5 * 500 * STEP_S * rate
        assert dropped > 0
    if overload < 0.9:
        assert dropped == 0

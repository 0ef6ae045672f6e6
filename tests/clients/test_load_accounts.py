"""What a load generator counts: pure, with times that the test makes up."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.clients.benchmark.capacity import RESOLUTION, Search
from saccade.clients.benchmark.measured import (
    Account,
    Cut,
    Histogram,
    Measured,
    added,
    open_loop,
)

TICK = 10


def account(cut: Cut, **begun: int) -> tuple[Account, Measured]:
    measured = Measured(sessions=1)
    return Account(measured, cut, **begun), measured


def latencies(measured: Measured) -> list[float]:
    return [measured.latency.percentile(p) or 0.0 for p in (0.001, 100)]


def test_a_frame_is_due_when_its_last_event_happens():
    schedule = open_loop(start_s=100.0, seconds=1.0, frame_s=0.25)
    assert schedule.frames == 4
    assert [schedule.due_s(k) for k in range(4)] == [100.25, 100.5, 100.75, 101.0]


def test_sensors_take_turns_within_a_frame():
    schedules = [open_loop(0.0, 1.0, 0.1, place, of=4) for place in range(4)]
    due_s = sorted(one.due_s(0) for one in schedules)
    assert np.diff(due_s) == pytest.approx([0.025] * 3)
    assert all(one.due_s(one.frames - 1) <= 1.0 + 1e-9 for one in schedules)


def test_a_stall_is_charged_for_every_frame_that_was_due_meanwhile():
    """The server stalls for 3 s: the frames behind it waited too, though unsent."""
    counted, measured = account(Cut(TICK, TICK))
    for frame in range(4):
        counted.sent(due_s=frame, now_s=3.0 if frame else 0.0)
    for ticks in range(1, 5):
        counted.scored(ticks * TICK, now_s=3.0)
    assert measured.latency.percentile(25) == pytest.approx(0.0, abs=1e-5)
    assert measured.latency.percentile(50) == pytest.approx(1.0, rel=0.011)
    assert measured.latency.percentile(100) == 3.0
    assert measured.behind.percentile(100) == 2.0
    assert measured.from_sent.percentile(75) == pytest.approx(0.0, abs=1e-5)
    assert measured.from_sent.percentile(100) == 3.0
    assert measured.greatest_lag_s == 3.0


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=8),
    st.integers(0, 5),
    st.integers(0, 4),
)
def test_results_that_come_together_count_as_they_do_one_by_one(
    steps: list[int], held_back: int, dropped: int
):
    """Of some ticks the result was left out; those that were dropped came before."""
    counts = []
    for together in (False, True):
        counted, measured = account(Cut(3 * TICK, TICK, held_back))
        for frame in range(12):
            counted.sent(due_s=0.1 * frame, now_s=0.1 * frame + 0.01)
        gone = dropped * TICK
        ticks = [dropped + sum(steps[: k + 1]) for k in range(len(steps))]
        if together:
            counted.scored(ticks[-1] * TICK, 2.0, gone, results=len(ticks))
        else:
            for tick in ticks:
                counted.scored(tick * TICK, 2.0, gone)
        counted.end(3.0)
        counts.append(measured.to_json())
    assert counts[0] == counts[1]


def test_what_never_comes_counts_as_late_with_its_age():
    counted, measured = account(Cut(TICK, TICK))
    counted.sent(0.0, 0.0)
    counted.sent(1.0, 1.0)
    counted.missed(2.0)
    counted.scored(TICK, 0.5)
    counted.acked(TICK, 0.5)
    counted.end(now_s=5.0)
    assert measured.late == 2
    assert (len(measured.latency), len(measured.from_sent)) == (3, 2)
    assert measured.greatest_lag_s == 4.0
    assert not measured.complete


def test_a_tick_whose_result_is_left_out_is_scored_with_the_next():
    counted, measured = account(Cut(TICK, TICK))
    for frame in range(3):
        counted.sent(frame, frame)
    counted.scored(3 * TICK, now_s=4.0)
    assert measured.left_out == 2
    assert len(measured.latency) == 3
    assert measured.latency.percentile(100) == 4.0


def test_dropped_ticks_have_no_latency_and_no_result_is_missed():
    counted, measured = account(Cut(TICK, TICK))
    for frame in range(4):
        counted.sent(frame, frame)
    counted.scored(TICK, now_s=0.5)
    counted.scored(4 * TICK, now_s=4.0, dropped=2 * TICK)
    assert measured.left_out == 0
    assert len(measured.latency) == 2
    assert measured.latency.percentile(100) == 1.0


def test_ticks_dropped_at_the_very_end_are_not_waited_for():
    counted, measured = account(Cut(TICK, TICK))
    for frame in range(4):
        counted.sent(frame, frame)
    counted.scored(TICK, now_s=0.5)
    counted.acked(3 * TICK, now_s=3.5, dropped=2 * TICK)
    assert not counted.complete
    counted.acked(4 * TICK, now_s=4.0, dropped=3 * TICK)
    assert counted.complete
    counted.end(now_s=9.0)
    assert measured.late == 0
    assert len(measured.latency) == 1


def test_a_model_that_holds_an_event_back_is_timed_from_the_event_after_the_tick():
    counted, measured = account(Cut(TICK, TICK, held_back=1))
    counted.sent(0.0, 0.0)
    counted.sent(7.0, 7.0)
    counted.scored(TICK, now_s=7.5)
    assert latencies(measured) == pytest.approx([0.5, 0.5], rel=0.011)


def test_with_fewer_results_than_ticks_acknowledgements_show_the_lag():
    counted, measured = account(Cut(TICK, TICK, every_tick=False))
    for frame in range(3):
        counted.sent(frame, frame)
    counted.acked(3 * TICK, now_s=2.5)
    assert measured.greatest_lag_s == 2.5
    assert measured.scored_events == 3 * TICK
    counted.end(3.0)
    assert measured.late == 0


@given(
    frame=st.integers(1, 40),
    tick=st.integers(1, 40),
    held_back=st.integers(0, 1),
    frames=st.integers(1, 30),
    before=st.integers(0, 5),
    data=st.data(),
)
def test_every_tick_is_counted_once_however_events_and_results_are_cut(
    frame, tick, held_back, frames, before, data
):
    counted, measured = account(Cut(frame, tick, held_back), first_frame=before)
    for number in range(frames):
        counted.sent(number, number)
    first = max(0, before * frame - held_back) // tick
    last = max(0, (before + frames) * frame - held_back) // tick
    results = data.draw(st.lists(st.integers(first, last), unique=True).map(sorted))
    for ticks in results:
        counted.scored(ticks * tick, now_s=100.0)
    assert counted.complete == (max(results, default=first) == last)
    counted.end(now_s=100.0)
    assert len(measured.latency) == last - first
    assert measured.late + measured.left_out <= last - first
    assert 100.0 - frames < (measured.latency.percentile(100) or 100.0) <= 100.0


@given(st.lists(st.floats(1e-6, 1e3), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_within_its_resolution(seconds, percent):
    histogram = Histogram()
    for one in seconds:
        histogram.add(one)
    rank = max(0, int(np.ceil(len(seconds) * percent / 100)) - 1)
    exact = sorted(seconds)[rank]
    assert exact * (1 - 1e-9) <= (histogram.percentile(percent) or 0) <= exact * 1.012


def test_measurements_of_several_processes_add_up():
    parts = []
    for number in (1, 2):
        counted, measured = account(Cut(TICK, TICK))
        counted.sent(0.0, 0.0)
        counted.scored(TICK, now_s=float(number))
        counted.acked(TICK, now_s=float(number))
        measured.elapsed_s = float(number)
        parts.append(Measured.from_json(json.loads(json.dumps(measured.to_json()))))
    total = added(parts)
    assert total.sessions == 2
    assert total.events_per_s == 2 * TICK / 2.0
    assert latencies(total) == pytest.approx([1.0, 2.0], rel=0.011)
    assert total.summary()["latency_p99_ms"] == 2000.0
    total.follow(parts[0])
    assert (total.sessions, total.elapsed_s) == (1, 3.0)


@given(capacity=st.integers(0, 3000), most=st.integers(1, 2000))
def test_the_search_finds_the_capacity_in_few_steps(capacity, most):
    search, steps = Search(most), 0
    while (number := search.next) is not None:
        assert 1 <= number <= most
        search.record(number, passed=number <= capacity)
        steps += 1
    found = min(capacity, most)
    assert search.passed <= found <= search.passed * (1 + RESOLUTION) + 1
    assert search.passed or not found
    assert steps <= 2 * most.bit_length() + 1

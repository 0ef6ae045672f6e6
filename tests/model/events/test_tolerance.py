"""Invalid events are left out and counted; a far step of time may be undone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.errors import EventOutsideSensor, UnsortedEvents
from saccade.model.events.sensor import Sensor
from saccade.model.events.tolerance import (
    FAR_US,
    START,
    ClockPosition,
    Sorter,
    Tolerance,
    check_clock,
    in_order,
)
from saccade.model.events.types import EVENT_DTYPE, Events

SENSOR = Sensor(8, 6)
FAR = 10**15


def events_at(*times_us: int, x: int = 0) -> Events:
    events = np.zeros(len(times_us), EVENT_DTYPE)
    events["t"], events["x"] = times_us, x
    return events


def kept(times_us: list[int], at: ClockPosition = START) -> list[int]:
    t_us = np.array(times_us, np.int64)
    return t_us[in_order(t_us, at)[0]].tolist()


def test_a_stray_event_costs_itself_alone():
    """As in recordings of 1280x720 that hold an event at x = 1308."""
    events = events_at(*range(20_000))
    events["x"][12_000], events["t"][15_000] = 8, 3
    tolerance = Tolerance(SENSOR, "skip")
    parts = [tolerance.take(part) for part in np.array_split(events, 7)]
    found = np.concatenate(parts)
    assert len(found) == 19_998
    assert tolerance.skipped.events == 2
    assert tolerance.skipped.first == "event 12000 has x = 8, outside 0..7"


def test_the_first_fault_is_told_in_words():
    tolerance = Tolerance(SENSOR, "skip")
    tolerance.take(events_at(5, 6, 7))
    tolerance.take(events_at(8, 6, 9))
    assert tolerance.skipped.first == "event 4 at 6 µs follows one at 8 µs"


def test_an_invalid_event_is_an_error_unless_it_is_skipped():
    with pytest.raises(EventOutsideSensor):
        Tolerance(SENSOR).take(events_at(1, x=8))
    with pytest.raises(UnsortedEvents):
        Tolerance(SENSOR).take(events_at(2, 1))


@given(st.lists(st.integers(0, 50), max_size=40), st.lists(st.integers(0, 40)))
def test_what_is_kept_is_in_order_and_does_not_depend_on_cuts(times_us, places):
    events = events_at(*times_us)
    borders = [0, *sorted(min(place, len(events)) for place in places), len(events)]
    tolerance = Tolerance(SENSOR, "skip")
    parts = [tolerance.take(events[a:b])["t"].tolist() for a, b in pairwise(borders)]
    found = [t for part in parts for t in part]
    expected: list[int] = []
    for t in times_us:
        if not expected or t >= expected[-1]:
            expected.append(t)
    assert found == expected
    assert tolerance.skipped.events == len(times_us) - len(expected)


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=30),
    st.none() | st.integers(0, 2**40),
)
def test_one_by_one_keeps_a_sorted_rest_whatever_the_steps(times_us, last_us):
    at = ClockPosition(last_us, None if last_us is None else last_us // 2)
    t_us = np.array(times_us, np.int64)
    mask, after = in_order(t_us, at)
    found = t_us[mask]
    assert (np.diff(found) >= 0).all()
    if len(found):
        assert after.last_us == found[-1]
    else:
        assert after == at


@pytest.mark.parametrize(
    ("times_us", "expected"),
    [
        ([1, FAR, 2, 3], [1, 2, 3]),
        ([1, FAR, FAR + 1, 2, 3], [1, 2, 3]),
        ([1, FAR, 2 * FAR, 2, 3], [1, 2, 3]),
        ([1, FAR, FAR + 1], [1, FAR, FAR + 1]),  # a pause
        ([1, FAR, 2 * FAR, FAR + 1], [1, FAR, FAR + 1]),
        ([1, 2 + FAR_US, 2, 3], [1, 2 + FAR_US]),  # no far step: disorder
        ([5, FAR, 4, 6], [5, 6]),
    ],
)
def test_a_timestamp_far_in_the_future_is_left_out_once_time_is_back(
    times_us, expected
):
    assert kept(times_us) == expected


def test_a_far_step_at_a_chunk_s_end_is_undone_by_the_next_chunk():
    at = in_order(np.array([1, FAR]), START)[1]
    assert kept([2, 3], at) == [2, 3]
    assert kept([FAR + 1, 3, FAR + 2], at) == [FAR + 1, FAR + 2]  # confirmed


def test_where_a_fault_is_an_error_too_one_far_timestamp_does_not_poison_a_stream():
    at = check_clock(events_at(1, 2, FAR), START)
    assert at == ClockPosition(FAR, 2)
    assert check_clock(events_at(3, 4), at) == ClockPosition(4)
    with pytest.raises(UnsortedEvents):  # time was further already
        check_clock(events_at(1), at)
    confirmed = check_clock(events_at(FAR + 1), at)
    with pytest.raises(UnsortedEvents):
        check_clock(events_at(3), confirmed)


@given(
    st.lists(st.integers(0, 100), min_size=1, max_size=30),
    st.integers(1, 10),
    st.integers(0, 40),
)
def test_slightly_unsorted_events_are_put_in_order(steps, within_us, place):
    """Events late by no more than the bound: all are kept, in order of time."""
    due = np.cumsum(steps)
    late = np.random.default_rng(place).integers(0, within_us + 1, len(due))
    events = events_at(*due[np.argsort(due + late, kind="stable")].tolist())
    tolerance = Tolerance(SENSOR, sort_within_us=within_us)
    cut = min(place, len(events))
    parts = [tolerance.take(events[:cut]), tolerance.take(events[cut:])]
    found = np.concatenate([*parts, tolerance.rest()])
    assert found["t"].tolist() == due.tolist()


def test_a_timestamp_far_in_the_future_does_not_stop_the_sorting():
    tolerance = Tolerance(SENSOR, "skip", sort_within_us=5)
    parts = [[1, 3, 2], [4, FAR, 5], [8, 7, 20], [19, 30]]
    found = [tolerance.take(events_at(*part))["t"].tolist() for part in parts]
    found.append(tolerance.rest()["t"].tolist())
    assert [t for part in found for t in part if t != FAR] == [
        *[1, 2, 3, 4, 5, 7, 8, 19, 20, 30]
    ]
    whole = Tolerance(SENSOR, "skip", sort_within_us=5)
    kept = whole.whole(events_at(*[t for part in parts for t in part]))
    assert kept["t"].tolist() == [1, 2, 3, 4, 5, 7, 8, 19, 20, 30]
    assert whole.skipped.first == f"event 5 at 5 µs follows one at {FAR} µs"


@given(
    st.lists(st.integers(0, 60), max_size=40),
    st.lists(st.integers(0, 40)),
    st.integers(1, 20),
)
def test_sorting_does_not_depend_on_cuts(times_us, places, within_us):
    events = events_at(*times_us)
    borders = [0, *sorted(min(place, len(events)) for place in places), len(events)]
    cut, whole = Sorter(within_us), Sorter(within_us)
    parts = [cut.take(events[a:b]) for a, b in pairwise(borders)]
    found = np.concatenate([*parts, cut.rest()])
    expected = np.concatenate([whole.take(events), whole.rest()])
    assert found["t"].tolist() == expected["t"].tolist()

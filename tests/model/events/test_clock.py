"""A clock's wraps are undone, and its small steps back are removed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.clock import JitterFilter, Unwrapper, unwrap_sorted

BITS = 8
STEPS = st.lists(st.integers(-100, 100), min_size=1, max_size=40)


def in_parts(function, values, cut):
    return np.concatenate([function(values[:cut]), function(values[cut:])])


@given(st.integers(100, 255), STEPS, st.integers(0, 40))
def test_a_clock_is_unwrapped_through_any_small_steps(start, steps, cut):
    times = start + np.concatenate([[0], np.cumsum(steps)])
    counts = (times % (1 << BITS)).astype(np.uint32)
    assert np.array_equal(in_parts(Unwrapper(BITS).unwrap, counts, cut), times)


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(0, 40))
def test_steps_back_within_the_tolerance_are_removed(times, cut):
    t_us = np.array(times, np.int64)
    filtered = in_parts(JitterFilter(50).apply, t_us, cut)
    assert np.array_equal(filtered, np.maximum.accumulate(t_us) if times else t_us)


def test_a_step_back_beyond_the_tolerance_is_kept():
    t_us = np.array([100, 95, 89, 90, 101], np.int64)
    assert JitterFilter(10).apply(t_us).tolist() == [100, 100, 89, 100, 101]


def test_time_that_never_steps_back_is_kept():
    t_us = np.array([-5, -5, 0, 7], np.int64)
    assert JitterFilter(10).apply(t_us).tolist() == t_us.tolist()


@pytest.mark.parametrize("bits", [24, 31, 34])
@given(data=st.data())
def test_a_sorted_clock_is_unwrapped_through_any_pause_below_its_limit(bits, data):
    limit = (7 << bits) // 8 - 1
    gaps = data.draw(st.lists(st.integers(0, limit) | st.just(limit), max_size=30))
    start = data.draw(st.integers(0, (1 << bits) - 1))
    times = start + np.cumsum([0, *gaps])
    cut = data.draw(st.integers(0, len(times)))
    counts = times % (1 << bits)
    first = unwrap_sorted(counts[:cut], bits, None)
    newest = int(first[-1]) if cut else None
    whole = np.concatenate([first, unwrap_sorted(counts[cut:], bits, newest)])
    assert whole.tolist() == times.tolist()


def test_a_small_step_back_is_no_wrap():
    counts = np.array([2**24 - 5, 3, 1], np.int64)
    expected = [2**24 - 5, 2**24 + 3, 2**24 + 1]
    assert unwrap_sorted(counts, 24, None).tolist() == expected

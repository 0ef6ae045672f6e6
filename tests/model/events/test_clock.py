"""A wrapping clock counts on, and its small steps back do no harm."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from model.events.clock import Lifter, Unwrapper

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
def test_steps_back_within_the_tolerance_are_lifted(times, cut):
    t_us = np.array(times, np.int64)
    lifted = in_parts(Lifter(50).lift, t_us, cut)
    assert np.array_equal(lifted, np.maximum.accumulate(t_us) if times else t_us)


def test_a_step_back_beyond_the_tolerance_is_kept():
    t_us = np.array([100, 95, 89, 90, 101], np.int64)
    assert Lifter(10).lift(t_us).tolist() == [100, 100, 89, 100, 101]


def test_time_that_never_steps_back_is_kept():
    t_us = np.array([-5, -5, 0, 7], np.int64)
    assert Lifter(10).lift(t_us).tolist() == t_us.tolist()

"""A chunk must continue its stream and lie inside its sensor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.errors import EventOutsideSensor, EventsError, UnsortedEvents
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, check

SENSOR = Sensor(4, 3)


def events_at(*times_us):
    return np.array([(t, 0, 0, 0) for t in times_us], EVENT_DTYPE)


def test_an_empty_chunk_is_in_order():
    check(events_at(), SENSOR, None)
    check(events_at(), SENSOR, 5)


def test_equal_timestamps_are_in_order():
    check(events_at(5, 5, 6), SENSOR, 5)


def test_time_may_not_run_backwards_within_a_chunk():
    with pytest.raises(UnsortedEvents) as caught:
        check(events_at(1, 2, 20, 19, 3), SENSOR, None)
    error = caught.value
    assert (error.index, error.t_us, error.previous_t_us) == (3, 19, 20)
    assert str(error) == "event 3 at 19 µs follows one at 20 µs"


def test_time_may_not_run_backwards_between_chunks():
    with pytest.raises(UnsortedEvents, match="event 0 at 19 µs follows one at 20 µs"):
        check(events_at(19, 30), SENSOR, 20)


@pytest.mark.parametrize(
    ("row", "field", "limit"),
    [((0, 4, 0, 0), "x", 4), ((0, 0, 3, 0), "y", 3), ((0, 0, 0, 2), "p", 2)],
)
def test_an_event_outside_the_sensor_is_named(row, field, limit):
    events = np.array([(0, 3, 2, 1), row, row], EVENT_DTYPE)
    with pytest.raises(EventOutsideSensor) as caught:
        check(events, SENSOR, None)
    error = caught.value
    assert (error.index, error.field) == (1, field)
    assert (error.value, error.limit) == (limit, limit)
    assert str(error) == f"event 1 has {field} = {limit}, outside 0..{limit - 1}"


def test_a_cochlea_has_one_polarity():
    events = np.array([(0, 9, 0, 1)], EVENT_DTYPE)
    with pytest.raises(EventOutsideSensor, match="p = 1"):
        check(events, Sensor(10, 1, polarities=1), None)


@given(
    st.lists(st.integers(-5, 5), max_size=12),
    st.one_of(st.none(), st.integers(-5, 5)),
)
def test_a_chunk_passes_exactly_when_it_is_sorted(times_us, last_t_us):
    stream = ([] if last_t_us is None else [last_t_us]) + times_us
    try:
        check(events_at(*times_us), SENSOR, last_t_us)
    except UnsortedEvents:
        assert times_us
        assert stream != sorted(stream)
    else:
        assert stream == sorted(stream) or not times_us


def test_every_error_about_events_is_a_value_error():
    assert issubclass(EventsError, ValueError)

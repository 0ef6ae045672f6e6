"""Arrays of any library are converted to events, and events are checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.errors import (
    EventOutsideSensor,
    EventsError,
    NotEvents,
    UnsortedEvents,
)
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, as_events, check

SENSOR = Sensor(4, 3)


def array_of(fields, *rows):
    return np.array(list(rows), dtype=list(fields.items()))


@pytest.mark.parametrize("time", ["t", "timestamp", "ts"])
@pytest.mark.parametrize("polarity", ["p", "on", "polarity"])
def test_fields_may_have_the_names_that_libraries_give_them(time, polarity):
    array = array_of({polarity: "?", "y": "i2", "x": "i2", time: "u8"}, (True, 3, 2, 9))
    assert as_events(array).tolist() == [(9, 2, 3, 1)]


def test_an_array_that_is_of_the_dtype_is_not_copied():
    events = np.zeros(3, EVENT_DTYPE)
    assert as_events(events) is events


def test_a_polarity_of_minus_one_is_darker():
    fields = {"t": "i8", "x": "i4", "y": "i4", "p": "i1"}
    array = array_of(fields, (0, 1, 1, -1), (1, 1, 1, 1))
    assert as_events(array)["p"].tolist() == [0, 1]


def test_fields_that_are_no_part_of_an_event_are_ignored():
    fields = {"t": "i8", "x": "u2", "y": "u2", "p": "u1", "z": "f8"}
    assert as_events(array_of(fields, (0, 1, 2, 1, 0.5))).dtype == EVENT_DTYPE


def test_the_title_that_faery_gives_a_polarity_does_not_hide_it():
    dtype = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")])
    assert as_events(np.array([(4, 1, 2, True)], dtype)).tolist() == [(4, 1, 2, 1)]


def test_a_missing_field_is_named():
    with pytest.raises(NotEvents, match="no field t or timestamp or ts among"):
        as_events(array_of({"x": "u2", "y": "u2", "p": "u1"}, (1, 2, 1)))


def test_plain_arrays_and_tables_are_refused():
    with pytest.raises(NotEvents, match="no field t"):
        as_events(np.zeros(4))
    with pytest.raises(NotEvents, match="2 dimensions"):
        as_events(np.zeros((2, 4)))


def test_timestamps_in_seconds_are_refused():
    fields = {"t": "f8", "x": "u2", "y": "u2", "p": "u1"}
    with pytest.raises(NotEvents, match="field t is float64"):
        as_events(array_of(fields, (0.5, 1, 2, 1)))


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        ((0, -1, 0, 0), "x", -1),
        ((0, 0, 70000, 0), "y", 70000),
        ((0, 0, 0, 300), "p", 300),
    ],
)
def test_a_value_that_would_wrap_is_named(row, field, value):
    fields = {"t": "i8", "x": "i4", "y": "i4", "p": "i4"}
    with pytest.raises(EventOutsideSensor) as caught:
        as_events(array_of(fields, (0, 0, 0, 0), row))
    assert (caught.value.index, caught.value.field) == (1, field)
    assert caught.value.value == value


def test_a_timestamp_beyond_int64_is_named():
    array = array_of({"t": "u8", "x": "u2", "y": "u2", "p": "u1"}, (2**63, 0, 0, 0))
    with pytest.raises(EventOutsideSensor, match="event 0 has t ="):
        as_events(array)


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

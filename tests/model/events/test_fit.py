"""Fitting one sensor's events to another's geometry."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.errors import EventOutsideSensor, SensorMismatch
from saccade.model.events.fit import POLICIES, Fit, fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, check_inside

SENSORS = st.builds(Sensor, st.integers(1, 300), st.integers(1, 300))


def every_pixel(sensor):
    y, x = np.divmod(np.arange(sensor.width * sensor.height), sensor.width)
    events = np.zeros(x.size, EVENT_DTYPE)
    events["t"], events["x"], events["y"] = np.arange(x.size), x, y
    return events


def corners(sensor):
    right, bottom = sensor.width - 1, sensor.height - 1
    places = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    return np.array([(0, x, y, 1) for x, y in places], EVENT_DTYPE)


def places(events):
    return list(zip(events["x"].tolist(), events["y"].tolist(), strict=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_events_of_the_same_geometry_pass_through(policy):
    events = every_pixel(Sensor(5, 4))
    assert fit(events, Sensor(5, 4), Sensor(5, 4), policy) is events


def test_the_table_has_every_name_of_a_policy():
    assert (*POLICIES,) == get_args(Fit) == ("reject", "scale", "crop")


def test_reject_names_both_sensors():
    with pytest.raises(SensorMismatch, match="5x4 sensor where 4x4 is expected"):
        fit(every_pixel(Sensor(5, 4)), Sensor(5, 4), Sensor(4, 4), "reject")


@given(SENSORS, SENSORS)
def test_scale_keeps_every_event_and_stays_inside(source, target):
    events = corners(source)
    fitted = fit(events, source, target, "scale")
    check_inside(fitted, target)
    assert np.array_equal(fitted["t"], events["t"])
    assert np.array_equal(fitted["p"], events["p"])


@given(SENSORS, SENSORS)
def test_scale_fills_one_axis_and_centres_the_other(source, target):
    fitted = fit(corners(source), source, target, "scale")
    for field, side in (("x", target.width), ("y", target.height)):
        before, after = int(fitted[field].min()), side - 1 - int(fitted[field].max())
        pixel = max(target.width / source.width, target.height / source.height)
        assert abs(before - after) <= pixel + 2


@given(SENSORS, SENSORS)
def test_crop_stays_inside(source, target):
    check_inside(fit(corners(source), source, target, "crop"), target)


def test_scale_keeps_the_aspect_ratio():
    fitted = fit(corners(Sensor(640, 480)), Sensor(640, 480), Sensor(128, 128), "scale")
    assert places(fitted) == [(0, 16), (127, 16), (0, 111), (127, 111)]


def test_scale_gives_every_pixel_its_share():
    source, target = Sensor(640, 480), Sensor(128, 128)
    fitted = fit(every_pixel(source), source, target, "scale")
    pixel = fitted["y"].astype(int) * 128 + fitted["x"]
    assert set(np.bincount(pixel)) == {0, 25}


def test_scale_spreads_out_a_smaller_sensor():
    fitted = fit(every_pixel(Sensor(2, 1)), Sensor(2, 1), Sensor(8, 8), "scale")
    assert places(fitted) == [(2, 4), (6, 4)]


def test_crop_takes_the_centre_and_drops_the_rest():
    source = Sensor(6, 4)
    fitted = fit(every_pixel(source), source, Sensor(2, 2), "crop")
    assert places(fitted) == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert fitted["t"].tolist() == [8, 9, 14, 15]


def test_crop_centres_a_smaller_sensor():
    fitted = fit(corners(Sensor(2, 2)), Sensor(2, 2), Sensor(6, 4), "crop")
    assert places(fitted) == [(2, 1), (3, 1), (2, 2), (3, 2)]


def test_crop_may_widen_one_axis_and_narrow_the_other():
    source = Sensor(1, 5)
    fitted = fit(every_pixel(source), source, Sensor(3, 3), "crop")
    assert places(fitted) == [(1, 0), (1, 1), (1, 2)]


def test_the_callers_events_are_not_changed():
    events = corners(Sensor(10, 10))
    before = events.copy()
    fit(events, Sensor(10, 10), Sensor(4, 4), "scale")
    fit(events, Sensor(10, 10), Sensor(4, 4), "crop")
    assert np.array_equal(events, before)


def test_scale_refuses_an_event_outside_its_source():
    with pytest.raises(EventOutsideSensor, match="x = 9"):
        fit(corners(Sensor(10, 10)), Sensor(9, 10), Sensor(4, 4), "scale")

"""What an inspection counts, however a recording is cut into chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.inspection import WINDOW_US, HotPixel, Inspection
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

SENSOR = Sensor(20, 10)


def inspected(events: Events, cuts: list[int] | None = None) -> Inspection:
    inspection = Inspection(SENSOR)
    for chunk in np.split(events, sorted(cuts or [])):
        inspection.add(chunk)
    return inspection


def noise(number: int, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    events = np.empty(number, EVENT_DTYPE)
    events["t"] = np.cumsum(rng.integers(0, 300, number))
    events["x"], events["y"] = rng.integers(0, 20, number), rng.integers(0, 10, number)
    events["p"] = rng.integers(0, 2, number)
    return events


@given(st.lists(st.integers(0, 500), max_size=6))
def test_the_cuts_do_not_matter(cuts):
    events = noise(500)
    whole, parts = inspected(events), inspected(events, cuts)
    for name in ("events", "on", "duration_us", "rate", "peak_rate", "timing"):
        assert getattr(whole, name) == getattr(parts, name)
    assert np.array_equal(whole.accumulated(), parts.accumulated())
    assert np.array_equal(whole.time_surface(), parts.time_surface())


def test_the_peak_is_that_of_the_busiest_span():
    events = noise(7)
    events["t"] = [0, 1, WINDOW_US, WINDOW_US + 1, WINDOW_US + 2, 10**6, 10**6]
    assert inspected(events).peak_rate == 300
    assert inspected(events).timing.gaps == 1
    assert inspected(events).timing.longest_gap_us == 10**6 - WINDOW_US - 2


@pytest.mark.parametrize(
    ("times", "steps", "largest", "bits"),
    [
        ([5, 4, 6, 2], 2, 4, None),
        ([2**31 - 1, 3], 1, 2**31 - 4, 31),
        ([2**24 - 9, 3], 1, 2**24 - 12, 24),
        ([1, 2, 3], 0, 0, None),
    ],
)
def test_disorder_is_counted_and_a_wrap_recognized(times, steps, largest, bits):
    events = noise(len(times))
    events["t"] = times
    timing = inspected(events, [2]).timing
    assert (timing.steps_back, timing.largest_step_back_us) == (steps, largest)
    assert timing.clock_bits == bits


def test_a_hot_pixel_stands_out():
    events = np.concatenate([noise(600), noise(600, seed=1)])
    events["x"][::2], events["y"][::2] = 7, 3
    (hot,) = inspected(events).hot_pixels()
    assert hot == HotPixel(7, 3, np.sum((events["x"] == 7) & (events["y"] == 3)))
    assert inspected(noise(600)).hot_pixels() == []


def test_events_outside_the_sensor_are_counted_apart():
    events = noise(10)
    events["x"][3] = 20
    found = inspected(events)
    assert (found.events, found.outside) == (10, 1)


def test_pictures_show_polarity_and_age():
    events = np.array([(0, 1, 2, 0), (90_000, 5, 2, 1), (90_000, 6, 2, 0)], EVENT_DTYPE)
    found = inspected(events)
    surface, image = found.time_surface(), found.accumulated()
    assert image.shape == surface.shape == (10, 20)
    assert (image[2, 5], image[2, 6], image[0, 0]) == (255, 1, 128)
    assert (surface[2, 5], surface[2, 6], surface[0, 0]) == (255, 1, 128)
    assert surface[2, 1] == 128, "an old event has faded"


def test_a_sensor_too_large_for_pictures_is_counted_all_the_same():
    inspection = Inspection(Sensor(65_536, 65_536))
    inspection.add(noise(100))
    assert (inspection.events, inspection.hot_pixels()) == (100, [])
    assert inspection.accumulated().shape == (1, 1)

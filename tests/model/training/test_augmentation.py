from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.training.augmentation import compose, crop, mix
from saccade.model.training.settings import AugmentationSettings

NOTHING = AugmentationSettings(
    **{field.name: 0.0 for field in fields(AugmentationSettings)}
)
EVERYTHING = AugmentationSettings(
    drop_events=0.9,
    drop_time=0.9,
    drop_area=0.9,
    shift_pixels=20.0,
    rotate_degrees=180.0,
    scale=3.0,
    shear=1.0,
    stretch_time=3.0,
    jitter_us=5000.0,
    jitter_pixels=5.0,
    noise=0.5,
    flip_polarity=0.5,
    mix=0.0,
)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Events, Sensor]:
    sensor = Sensor(draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    count = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(seeds))
    events = np.zeros(count, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, draw(st.integers(1, 10**6)), count))
    events["x"] = rng.integers(sensor.width, size=count)
    events["y"] = rng.integers(sensor.height, size=count)
    events["p"] = rng.integers(2, size=count)
    return events, sensor


def assert_sound(events: Events, sensor: Sensor) -> None:
    assert events.dtype == EVENT_DTYPE
    assert events.size > 0
    assert (np.diff(events["t"]) >= 0).all()
    assert events["t"][0] >= 0
    assert (events["x"] < sensor.width).all()
    assert (events["y"] < sensor.height).all()
    assert (events["p"] <= 1).all()


@given(recordings(), seeds)
def test_all_augmentations_together_leave_a_sound_recording(
    recording: tuple[Events, Sensor], seed: int
) -> None:
    events, sensor = recording
    before = events.copy()
    after = compose(EVERYTHING, sensor)(events, np.random.default_rng(seed))
    assert_sound(after, sensor)
    assert (events == before).all(), "the recording itself must not change"


@pytest.mark.parametrize("name", [f.name for f in fields(NOTHING) if f.name != "mix"])
@given(recording=recordings(), seed=seeds)
def test_each_augmentation_alone_leaves_a_sound_recording(
    name: str, recording: tuple[Events, Sensor], seed: int
) -> None:
    events, sensor = recording
    settings = replace(NOTHING, **{name: getattr(EVERYTHING, name)})
    after = compose(settings, sensor)(events, np.random.default_rng(seed))
    assert_sound(after, sensor)


@given(recordings(), seeds)
def test_strength_zero_changes_nothing(
    recording: tuple[Events, Sensor], seed: int
) -> None:
    events, sensor = recording
    after = compose(NOTHING, sensor)(events, np.random.default_rng(seed))
    assert after is events


@given(recordings(), seeds)
def test_the_same_seed_augments_the_same_way(
    recording: tuple[Events, Sensor], seed: int
) -> None:
    events, sensor = recording
    augment = compose(EVERYTHING, sensor)
    first = augment(events, np.random.default_rng(seed))
    assert np.array_equal(first, augment(events, np.random.default_rng(seed)))


@given(recordings(), seeds, st.integers(1, 80))
def test_a_crop_is_a_run_of_consecutive_events(
    recording: tuple[Events, Sensor], seed: int, length: int
) -> None:
    events, _ = recording
    part = crop(events, np.random.default_rng(seed), length=length)
    assert part.size == min(length, events.size)
    starts = range(events.size - part.size + 1)
    assert any(np.array_equal(events[s : s + part.size], part) for s in starts)


@given(recordings(), recordings(), seeds)
def test_a_mixture_is_in_time_order_and_tells_its_share(
    first: tuple[Events, Sensor], second: tuple[Events, Sensor], seed: int
) -> None:
    mixture, share = mix(first[0], second[0], np.random.default_rng(seed))
    assert (np.diff(mixture["t"]) >= 0).all()
    assert 0.0 < share <= 1.0
    assert round(share * mixture.size) <= first[0].size


def test_a_shift_alone_moves_every_event_alike() -> None:
    events = np.zeros(50, EVENT_DTYPE)
    events["t"], events["x"], events["y"] = np.arange(50), 20, 30
    settings = replace(NOTHING, shift_pixels=5.0)
    moved = compose(settings, Sensor(60, 60))(events, np.random.default_rng(3))
    assert moved.size == 50
    assert len(set(moved["x"].tolist())) == len(set(moved["y"].tolist())) == 1
    assert (moved["x"][0], moved["y"][0]) != (20, 30)

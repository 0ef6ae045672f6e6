"""The simulated camera: its events are valid, and show the scene's motion."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.camera import CameraSettings, MotionStream, simulate
from saccade.model.events.simulator.scenes import DIRECTIONS, MOTIONS
from saccade.model.events.types import EVENT_DTYPE, check

SENSOR = Sensor(128, 128)
QUIET = CameraSettings(noise_hz=0.0)


def signed_image(events, motion, speed, t0_us):
    """Return ON minus OFF events where they were at t0, had the scene so moved."""
    direction = DIRECTIONS[motion]
    moved = speed * (events["t"] - t0_us) * 1e-6
    x = events["x"] - 63.5 - direction.right * moved
    y = events["y"] - 63.5 - direction.down * moved
    place = (x + 1j * y) * np.exp(-(1j * direction.turn + direction.zoom) * moved)
    x, y = np.round(place.real + 63.5), np.round(place.imag + 63.5)
    inside = (x >= 0) & (x < 128) & (y >= 0) & (y < 128)
    index = (y * 128 + x)[inside].astype(int)
    weights = np.where(events["p"] == 1, 1.0, -1.0)[inside]
    return np.bincount(index, weights, 128 * 128)


def likeness(events, motion, speed):
    """Return how well two parts of a recording agree once the motion is undone."""
    early, late = events[events["t"] < 25_000], events[events["t"] >= 25_000]
    a, b = (signed_image(part, motion, speed, 25_000) for part in (early, late))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def apparent_motion(events):
    scores = {
        motion: max(likeness(events, motion, speed) for speed in (90, 150))
        for motion in MOTIONS[:-1]
    }
    return max(scores, key=scores.__getitem__)


def test_the_nine_motions_keep_the_order_of_the_labels():
    assert MOTIONS == (
        "left",
        "right",
        "up",
        "down",
        "clockwise",
        "counter-clockwise",
        "expanding",
        "contracting",
        "still",
    )


@pytest.mark.parametrize("motion", MOTIONS[:-1])
def test_the_events_show_the_motion(motion):
    seen = [
        apparent_motion(simulate(motion, seed=seed, duration_us=50_000))
        for seed in range(5)
    ]
    assert seen.count(motion) >= 4, seen


@pytest.mark.parametrize("motion", MOTIONS)
def test_events_are_in_order_and_inside_the_sensor(motion):
    sensor = Sensor(80, 48)
    events = simulate(motion, seed=3, duration_us=60_000, sensor=sensor)
    assert events.dtype == EVENT_DTYPE
    check(events, sensor, None)
    assert events["t"][0] >= 0
    assert events["t"][-1] < 60_000
    assert events["x"].max() > 60
    assert events["y"].max() > 36


@pytest.mark.parametrize("motion", ["right", "expanding", "still"])
def test_a_seed_reproduces_its_events(motion):
    first, again, other = (
        simulate(motion, seed=seed, duration_us=30_000) for seed in (5, 5, 6)
    )
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_moving_scenes_send_40_to_120_events_a_millisecond():
    rates = [
        simulate(motion, seed=seed, duration_us=100_000).size / 100
        for motion in MOTIONS[:-1]
        for seed in range(6)
    ]
    assert 40 < np.median(rates) < 120
    assert min(rates) > 15
    assert max(rates) < 250


def test_a_still_scene_is_not_silent():
    rates = [
        simulate("still", seed=seed, duration_us=100_000).size / 100
        for seed in range(8)
    ]
    assert min(rates) > 4
    assert max(rates) < 250


def test_noise_comes_at_its_rate():
    quiet, noisy = (
        simulate(
            "left", seed=1, duration_us=1_000_000, settings=CameraSettings(noise_hz=hz)
        )
        for hz in (0.0, 2.0)
    )
    assert noisy.size - quiet.size == pytest.approx(2 * 128 * 128, rel=0.1)


def test_a_pixel_rests_after_an_event():
    settings = CameraSettings(noise_hz=0.0, refractory_us=2_000)
    events = simulate("right", seed=2, duration_us=200_000, settings=settings)
    pixel = events["y"].astype(int) * 128 + events["x"]
    order = np.lexsort((events["t"], pixel))
    gaps = np.diff(events["t"][order])[np.diff(pixel[order]) == 0]
    assert gaps.size > 100
    # Timestamps are cut to whole µs, which may bring two of them 1 µs nearer.
    assert gaps.min() >= 1_999


def test_timestamps_fall_between_the_rendered_frames_too():
    events = simulate("down", seed=4, duration_us=100_000, settings=QUIET)
    phase = events["t"] % QUIET.frame_us
    counts = np.histogram(phase, bins=10, range=(0, QUIET.frame_us))[0]
    assert counts.min() > 0.5 * counts.mean()


def test_brighter_and_darker_are_both_seen():
    events = simulate("left", seed=7, duration_us=100_000)
    assert 0.25 < events["p"].mean() < 0.75


def test_a_recording_may_outlast_a_scene():
    events = simulate("expanding", seed=0, duration_us=2_000_000)
    per_100_ms = np.histogram(events["t"], bins=20, range=(0, 2_000_000))[0]
    check(events, SENSOR, None)
    # A cut to the next scene makes no burst.
    assert per_100_ms.max() < 5 * per_100_ms.mean()
    assert per_100_ms.min() > 500


def test_a_higher_threshold_sends_fewer_events():
    low, high = (
        simulate("up", seed=1, duration_us=50_000, settings=CameraSettings(threshold=c))
        for c in (0.15, 0.4)
    )
    assert high.size < low.size / 2


@pytest.mark.parametrize(
    "fields",
    [
        {"threshold": 0.0},
        {"frame_us": 0},
        {"mismatch": 2.0},
        {"noise_hz": -1.0},
        {"refractory_us": -1},
    ],
)
def test_impossible_physics_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        CameraSettings(**fields)


def test_an_unknown_motion_is_refused():
    with pytest.raises(ValueError, match="sideways"):
        simulate("sideways", seed=0, duration_us=1_000)


def test_a_recording_of_no_time_is_refused():
    with pytest.raises(ValueError, match="duration_us"):
        simulate("left", seed=0, duration_us=0)


class TestMotionStream:
    stream = MotionStream(seed=1, segment_us=30_000, chunk_us=10_000)

    def test_each_motion_comes_once_in_nine_segments(self):
        motions = [motion for motion, _ in islice(self.stream, 27)]
        assert motions[::3] == motions[1::3] == motions[2::3]
        assert sorted(motions[::3]) == sorted(MOTIONS)

    def test_time_continues_from_chunk_to_chunk(self):
        last_us = None
        for number, (_, events) in enumerate(islice(self.stream, 12)):
            check(events, SENSOR, last_us)
            last_us = int(events["t"][-1])
            assert events["t"][0] >= number * 10_000
            assert last_us < (number + 1) * 10_000

    def test_each_iteration_starts_anew(self):
        first, again = (
            [events.tobytes() for _, events in islice(self.stream, 5)] for _ in range(2)
        )
        assert first == again

    def test_chunks_must_fill_a_segment(self):
        with pytest.raises(ValueError, match="multiple"):
            MotionStream(seed=0, segment_us=25_000, chunk_us=10_000)


@pytest.mark.parametrize("seed", [411, 690])
def test_a_pixel_that_stands_still_a_hair_over_its_threshold_does_no_harm(
    seed: int,
) -> None:
    """Both scenes once divided by a change of exactly nothing."""
    events = simulate("expanding", seed=seed, duration_us=300_000)
    assert np.all(np.diff(events["t"]) >= 0)
    assert 0 <= events["t"][0] <= events["t"][-1] < 300_000

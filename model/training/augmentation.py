"""Augmentations of one sample's events: pure NumPy, with the caller's generator.

Each takes events in time order and returns events in time order, inside the sensor.
An augmentation that would leave no event returns its events unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.training.settings import AugmentationSettings

Augment = Callable[[Events, np.random.Generator], Events]
Reals = npt.NDArray[np.float64]


def compose(settings: AugmentationSettings, sensor: Sensor) -> Augment:
    """Chain the augmentations whose strength is not 0 into one function."""
    s = settings
    chain: list[tuple[float, Augment]] = [
        (s.drop_time, partial(drop_time, share=s.drop_time)),
        (s.drop_area, partial(drop_area, share=s.drop_area, sensor=sensor)),
        (s.drop_events, partial(drop_events, share=s.drop_events)),
        (_warps(s), partial(warp, settings=s, sensor=sensor)),
        (s.stretch_time, partial(stretch_time, most=s.stretch_time)),
        (s.jitter_us, partial(jitter_time, sigma_us=s.jitter_us)),
        (s.flip_polarity, partial(flip_polarity, probability=s.flip_polarity)),
        (s.noise, partial(add_noise, share=s.noise, sensor=sensor)),
    ]
    active = [augment for strength, augment in chain if strength > 0]
    return partial(_all, active)


def _all(
    augments: Sequence[Augment], events: Events, rng: np.random.Generator
) -> Events:
    for augment in augments:
        events = augment(events, rng)
    return events


def crop(events: Events, rng: np.random.Generator, *, length: int) -> Events:
    """Keep at most `length` consecutive events, from anywhere in the sample."""
    if events.size <= length:
        return events
    start = int(rng.integers(events.size - length + 1))
    return events[start : start + length]


def drop_events(events: Events, rng: np.random.Generator, *, share: float) -> Events:
    """Drop each event with one probability, itself drawn from [0, share)."""
    return _keep(events, rng.random(events.size) >= rng.uniform(0.0, share))


def drop_time(events: Events, rng: np.random.Generator, *, share: float) -> Events:
    """Cut out all events of one gap, of up to `share` of the duration."""
    t = events["t"]
    duration = float(t[-1] - t[0])
    gap = rng.uniform(0.0, share) * duration
    start = t[0] + rng.uniform(0.0, duration - gap)
    return _keep(events, (t < start) | (t > start + gap))


def drop_area(
    events: Events, rng: np.random.Generator, *, share: float, sensor: Sensor
) -> Events:
    """Drop the events of one square of up to `share` of the sensor's area."""
    side = np.sqrt(rng.uniform(0.0, share) * sensor.width * sensor.height)
    left = rng.uniform(-side, sensor.width)
    top = rng.uniform(-side, sensor.height)
    x, y = events["x"], events["y"]
    inside = (x >= left) & (x < left + side) & (y >= top) & (y < top + side)
    return _keep(events, ~inside)


def warp(
    events: Events,
    rng: np.random.Generator,
    *,
    settings: AugmentationSettings,
    sensor: Sensor,
) -> Events:
    """Shift, rotate, scale and shear about the centre; drop events outside the sensor.

    Positions are dithered before they are rounded, so that a rotation or a
    scaling leaves no regular pattern of empty pixels.
    """
    s = settings
    matrix = _affine(rng, s)
    centre = np.array([[(sensor.width - 1) / 2], [(sensor.height - 1) / 2]])
    shift = rng.uniform(-s.shift_pixels, s.shift_pixels, size=(2, 1))
    if s.rotate_degrees == s.scale == s.shear == 0.0:
        shift = np.round(shift)
    position = np.stack([events["x"], events["y"]]).astype(np.float64) - centre
    position = matrix @ position + centre + shift
    if s.rotate_degrees or s.scale or s.shear:
        position += rng.uniform(-0.5, 0.5, size=position.shape)
    if s.jitter_pixels:
        position += rng.normal(0.0, s.jitter_pixels, size=position.shape)
    if sensor.height == 1:  # a cochlea: events stay in its only row
        position[1] = 0.0
    return _moved(events, np.rint(position), sensor)


def stretch_time(events: Events, rng: np.random.Generator, *, most: float) -> Events:
    """Play faster or slower by one factor in [1/(1+most), 1+most]."""
    t = events["t"]
    stretched = events.copy()
    stretched["t"] = t[0] + np.rint((t - t[0]) * _factor(rng, most)).astype(np.int64)
    return stretched


def jitter_time(events: Events, rng: np.random.Generator, *, sigma_us: float) -> Events:
    """Add normal noise to every timestamp, and sort again."""
    noise = rng.normal(0.0, sigma_us, size=events.size)
    jittered = events.copy()
    jittered["t"] = np.maximum(events["t"] + np.rint(noise).astype(np.int64), 0)
    return _sorted(jittered)


def flip_polarity(
    events: Events, rng: np.random.Generator, *, probability: float
) -> Events:
    """Swap brighter and darker, as an inverted scene would."""
    if rng.random() >= probability:
        return events
    flipped = events.copy()
    flipped["p"] = 1 - events["p"]
    return flipped


def add_noise(
    events: Events, rng: np.random.Generator, *, share: float, sensor: Sensor
) -> Events:
    """Add events anywhere and any time, up to `share` of the number of real ones."""
    count = int(rng.uniform(0.0, share) * events.size)
    noise = np.empty(count, dtype=EVENT_DTYPE)
    noise["t"] = rng.integers(events["t"][0], events["t"][-1] + 1, size=count)
    noise["x"] = rng.integers(sensor.width, size=count)
    noise["y"] = rng.integers(sensor.height, size=count)
    noise["p"] = rng.integers(sensor.polarities, size=count)
    return _sorted(np.concatenate([events, noise]))


def mix(
    first: Events, second: Events, rng: np.random.Generator
) -> tuple[Events, float]:
    """Join the start of `first` and the end of `second` (CutMix along time).

    Args:
        first: Gives the events before a random cut, a share of its length.
        second: Gives the events after the same share of its own length, shifted in
            time to follow.
        rng: Draws the cut.

    Returns:
        The mixture, and the share of its events that belongs to `first`.
    """
    cut = rng.random()
    head = first[: int(cut * first.size)]
    tail = second[int(cut * second.size) :].copy()
    if not head.size or not tail.size:
        return first, 1.0
    tail["t"] += head["t"][-1] - tail["t"][0]
    return np.concatenate([head, tail]), head.size / (head.size + tail.size)


def _sorted(events: Events) -> Events:
    return np.asarray(events[np.argsort(events["t"], kind="stable")])


def _keep(events: Events, kept: npt.NDArray[np.bool_]) -> Events:
    return np.asarray(events[kept]) if kept.any() else events


def _warps(s: AugmentationSettings) -> float:
    return max(s.shift_pixels, s.rotate_degrees, s.scale, s.shear, s.jitter_pixels)


def _factor(rng: np.random.Generator, most: float) -> float:
    """Return a factor in [1/(1+most), 1+most], as often below 1 as above."""
    return float(np.exp(rng.uniform(-1.0, 1.0) * np.log1p(most)))


def _affine(rng: np.random.Generator, s: AugmentationSettings) -> Reals:
    angle = np.deg2rad(rng.uniform(-s.rotate_degrees, s.rotate_degrees))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.uniform(-s.shear, s.shear)], [0.0, 1.0]])
    size = np.diag([_factor(rng, s.scale), _factor(rng, s.scale)])
    return np.asarray(turn @ shear @ size, dtype=np.float64)


def _moved(events: Events, position: Reals, sensor: Sensor) -> Events:
    x, y = position
    inside = (x >= 0) & (x < sensor.width) & (y >= 0) & (y < sensor.height)
    if not inside.any():
        return events
    moved: Events = events[inside]
    moved["x"] = x[inside]
    moved["y"] = y[inside]
    return moved

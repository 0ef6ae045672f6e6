"""A simulated event camera.

Each pixel holds a reference log intensity and sends an event whenever the scene's
differs from the reference by the pixel's own threshold. Between two rendered frames
the intensity changes linearly, so an event's timestamp is that of the crossing, not
of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.patterns import FloatImage
from saccade.model.events.simulator.scenes import MOTIONS, Scene, draw_scene
from saccade.model.events.types import EVENT_DTYPE, Events

DEFAULT_SENSOR: Final = Sensor(128, 128)


@dataclass(frozen=True)
class CameraSettings:
    """The camera's physics.

    Attributes:
        threshold: Change of log intensity that makes an event.
        mismatch: Standard deviation of the pixels' thresholds, relative to them.
        refractory_us: A pixel is silent for this long after an event, µs.
        noise_hz: Background events of a pixel, 1/s.
        frame_us: Time between rendered frames, µs; should be so short that a
            picture moves by less than about a pixel.
    """

    threshold: float = 0.2
    mismatch: float = 0.04
    refractory_us: int = 300
    noise_hz: float = 0.4
    frame_us: int = 5_000

    def __post_init__(self) -> None:
        if self.threshold <= 0 or self.frame_us < 1:
            raise ValueError("threshold and frame_us are above 0")
        if not 0 <= self.mismatch <= 0.3:
            raise ValueError(f"mismatch {self.mismatch} not in 0..0.3")
        if self.noise_hz < 0 or self.refractory_us < 0:
            raise ValueError("noise_hz and refractory_us are not negative")


class Crossings(NamedTuple):
    """Runs of evenly spaced threshold crossings, each run at one pixel.

    Attributes:
        pixel: Flat pixel index of each run, shape (n,), as all that follow.
        rising: Whether the run's events are brighter.
        number: Crossings of the run.
        first_us: Time of the first crossing, µs.
        gap_us: Time between two crossings, µs.
    """

    pixel: npt.NDArray[np.intp]
    rising: npt.NDArray[np.bool_]
    number: npt.NDArray[np.int64]
    first_us: npt.NDArray[np.float64]
    gap_us: npt.NDArray[np.float64]


class Camera:
    """One simulated sensor: its pixels' thresholds and their reference intensities."""

    def __init__(
        self, sensor: Sensor, settings: CameraSettings, rng: np.random.Generator
    ) -> None:
        pixels = sensor.width * sensor.height
        self._sensor = sensor
        self._settings = settings
        self._rng = rng
        mismatch = rng.standard_normal((2, pixels), dtype=np.float32)
        mismatch = np.clip(1 + settings.mismatch * mismatch, 0.1, None)
        self._on, self._off = np.float32(settings.threshold) * mismatch
        self._off *= -1
        self._last_us = np.full(pixels, -np.inf)
        self._now_us = 0
        self._scene: Scene | None = None
        self._cut_us = 0
        self._intensity = self._reference = np.zeros(pixels, np.float32)

    def record(self, scene: Scene, duration_us: int) -> Events:
        """Return the next events of a scene.

        Args:
            scene: The scene before the camera; another scene than in the last
                call is a cut, and starts from its beginning.
            duration_us: Length of the recording, µs, above 0.

        Returns:
            Events, shape (n,), in time order, timestamped from where the last
            call ended (0 at first) until `duration_us` later, exclusive.
        """
        if scene is not self._scene:
            self._cut_to(scene)
        frames = max(1, round(duration_us / self._settings.frame_us))
        edges_us = np.linspace(self._now_us, self._now_us + duration_us, frames + 1)
        found = [self._noise(duration_us)]
        for begin_us, end_us in pairwise(edges_us):
            before = self._intensity
            self._intensity = scene.render(end_us - self._cut_us, self._sensor).ravel()
            found.append(self._crossings(before, (begin_us, end_us)))
        self._now_us += duration_us
        return self._sorted(found)

    def _cut_to(self, scene: Scene) -> None:
        """Adapt to a scene's first frame, so that a cut causes no burst of events."""
        self._scene = scene
        self._cut_us = self._now_us
        self._intensity = scene.render(0.0, self._sensor).ravel()
        # Each pixel starts somewhere inside its own dead band.
        band = self._rng.random(self._intensity.size, dtype=np.float32)
        self._reference = self._intensity + band * (self._off - self._on) - self._off

    def _crossings(self, before: FloatImage, span_us: tuple[float, float]) -> Crossings:
        """Return one span's threshold crossings, and move the references to them.

        Args:
            before: Log intensity at the span's begin, shape (n,).
            span_us: The span's begin and end, µs.
        """
        change = self._intensity - self._reference
        crossed = change >= self._on
        crossed |= change <= self._off
        pixel = np.flatnonzero(crossed)
        change, before = change.take(pixel), before.take(pixel)
        reference, rising = self._reference.take(pixel), change > 0
        step = np.where(rising, self._on.take(pixel), self._off.take(pixel))
        count = np.floor(change / step)
        self._reference[pixel] = reference + count * step
        moved = self._intensity.take(pixel) - before
        # Rounding can leave a pixel that stands still a hair over its threshold.
        us_per_level = np.divide(
            span_us[1] - span_us[0], moved, out=np.zeros(moved.size), where=moved != 0
        )
        first_us = span_us[0] + np.maximum(
            (reference + step - before) * us_per_level, 0
        )
        gap_us = np.maximum(step * us_per_level, 1e-3)
        return self._after_refractory(pixel, rising, count, first_us, gap_us)

    def _after_refractory(
        self,
        pixel: npt.NDArray[np.intp],
        rising: npt.NDArray[np.bool_],
        count: FloatImage,
        first_us: npt.NDArray[np.float64],
        gap_us: npt.NDArray[np.float64],
    ) -> Crossings:
        """Drop the crossings that fall into a pixel's refractory period.

        Crossings of a run are evenly spaced, so those that pass are every so
        many from a first one on. `_last_us` moves to the last that passes.
        """
        refractory_us = self._settings.refractory_us
        ready_us = self._last_us.take(pixel) + refractory_us
        skipped = np.ceil(np.maximum(ready_us - first_us, 0) / gap_us)
        every = np.maximum(np.ceil(refractory_us / gap_us), 1)
        kept = np.maximum(np.ceil((count - skipped) / every), 0).astype(np.int64)
        first_us = first_us + skipped * gap_us
        gap_us = gap_us * every
        any_kept = kept > 0
        last_us = first_us + (kept - 1) * gap_us
        self._last_us[pixel[any_kept]] = last_us[any_kept]
        return Crossings(pixel, rising, kept, first_us, gap_us)

    def _noise(self, duration_us: int) -> Crossings:
        pixels = self._last_us.size
        rate = self._settings.noise_hz * 1e-6 * pixels
        count = int(self._rng.poisson(rate * duration_us))
        return Crossings(
            self._rng.integers(pixels, size=count),
            self._rng.integers(2, size=count) == 1,
            np.ones(count, np.int64),
            self._rng.uniform(self._now_us, self._now_us + duration_us, count),
            np.zeros(count),
        )

    def _sorted(self, found: list[Crossings]) -> Events:
        runs = Crossings(*(np.concatenate(part) for part in zip(*found, strict=True)))
        begins = np.cumsum(runs.number) - runs.number
        nth = np.arange(runs.number.sum()) - np.repeat(begins, runs.number)
        t_us = np.repeat(runs.first_us, runs.number)
        t_us += nth * np.repeat(runs.gap_us, runs.number)
        # A crossing at the very end of the last span still belongs to this recording.
        whole_us = np.minimum(t_us.astype(np.int64), self._now_us - 1)
        order = np.argsort(whole_us, kind="stable")
        place = np.repeat(runs.pixel, runs.number)[order].astype(np.int32)
        events = np.empty(order.size, EVENT_DTYPE)
        events["t"] = whole_us[order]
        events["y"], events["x"] = np.divmod(place, self._sensor.width)
        events["p"] = np.repeat(runs.rising, runs.number)[order]
        return events


def simulate(
    motion: str,
    *,
    seed: int,
    duration_us: int,
    sensor: Sensor = DEFAULT_SENSOR,
    settings: CameraSettings = CameraSettings(),
) -> Events:
    """Simulate a camera before random scenes that all have one motion.

    Args:
        motion: One of MOTIONS.
        seed: Seed of scenes and camera; equal seeds give equal events.
        duration_us: Length of the recording, µs.
        sensor: The camera's pixels.
        settings: The camera's physics.

    Returns:
        Events, shape (n,), in time order, with timestamps in 0 … duration_us - 1.

    Raises:
        ValueError: No such motion, or duration_us is below 1.
    """
    if duration_us < 1:
        raise ValueError(f"duration_us {duration_us} is below 1")
    rng = np.random.default_rng(seed)
    camera = Camera(sensor, settings, rng)
    shots, remaining_us = [], duration_us
    while remaining_us:
        scene = draw_scene(motion, rng)
        shot_us = min(remaining_us, scene.duration_us)
        shots.append(camera.record(scene, shot_us))
        remaining_us -= shot_us
    return np.concatenate(shots)


@dataclass(frozen=True)
class MotionStream:
    """An endless recording whose motion changes; each iteration is from the start.

    An iterator yields (motion, events): the events of the next `chunk_us`, with
    timestamps that continue those of the chunk before. A motion lasts `segment_us`;
    every nine segments have each motion once.

    Attributes:
        seed: Seed of scenes and camera; equal seeds give equal streams.
        segment_us: How long a motion lasts, µs; a multiple of chunk_us.
        chunk_us: Time covered by one chunk, µs.
        sensor: The camera's pixels.
        settings: The camera's physics.
    """

    seed: int
    segment_us: int = 2_000_000
    chunk_us: int = 10_000
    sensor: Sensor = DEFAULT_SENSOR
    settings: CameraSettings = CameraSettings()

    def __post_init__(self) -> None:
        if self.chunk_us < 1 or self.segment_us < 1 or self.segment_us % self.chunk_us:
            raise ValueError(
                f"segment_us {self.segment_us} is no multiple of {self.chunk_us}"
            )

    def __iter__(self) -> Iterator[tuple[str, Events]]:
        rng = np.random.default_rng(self.seed)
        camera = Camera(self.sensor, self.settings, rng)
        while True:
            for label in rng.permutation(len(MOTIONS)):
                yield from self._segment(MOTIONS[label], camera, rng)

    def _segment(
        self, motion: str, camera: Camera, rng: np.random.Generator
    ) -> Iterator[tuple[str, Events]]:
        until_cut_us = 0
        for _ in range(self.segment_us // self.chunk_us):
            if until_cut_us <= 0:
                scene = draw_scene(motion, rng)
                until_cut_us = scene.duration_us
            yield motion, camera.record(scene, self.chunk_us)
            until_cut_us -= self.chunk_us

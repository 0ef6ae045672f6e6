"""Moving scenes for a simulated camera, drawn at random for each class of motion.

A scene is a flat picture of log intensity in a rigid motion past the sensor.
Lengths are in *units*: a sensor's long side is 128 units, so a scene looks the same
on every sensor. y points down, as on a sensor; "clockwise" is as the picture's viewer
sees it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.patterns import (
    CANVAS,
    FloatImage,
    paint_plaid,
    paint_shapes,
    paint_texture,
)

LONG_SIDE_UNITS: Final = 128
TEXELS_PER_UNIT: Final = 2
CANVAS_BITS: Final = CANVAS.bit_length() - 1
PERIOD_BITS: Final = 32
MEAN_RADIUS_UNITS: Final = 49.0
"""A pixel's mean distance from the centre of a square sensor."""

SPEED_UNITS_S: Final = (60.0, 200.0)
CHANGE_PER_MS: Final = (12.0, 24.0)
"""Log intensity summed over 128×128 pixels, 1/ms: a fifth of it is a threshold."""
EXPOSURE: Final = (0.6, 2.0)
"""Bounds of the factor that adjusts a scene's contrast."""
PROBE_US: Final = 20_000.0
LOG_SCALE: Final = 0.35
ZOOM_SPAN: Final = 2.0
"""A zoom ends when lengths have changed by this factor."""
LONGEST_SCENE_US: Final = 2_000_000
STILL_TREMOR_UNITS: Final = (0.3, 1.0)
MOVING_TREMOR_UNITS: Final = (0.0, 0.3)
TREMOR_HZ: Final = (8.0, 40.0)


class Direction(NamedTuple):
    """A motion at unit speed: shift (units), turn (rad) and zoom (log scale)."""

    right: float = 0.0
    down: float = 0.0
    turn: float = 0.0
    zoom: float = 0.0


DIRECTIONS: Final[dict[str, Direction]] = {
    "left": Direction(right=-1.0),
    "right": Direction(right=1.0),
    "up": Direction(down=-1.0),
    "down": Direction(down=1.0),
    "clockwise": Direction(turn=1.0 / MEAN_RADIUS_UNITS),
    "counter-clockwise": Direction(turn=-1.0 / MEAN_RADIUS_UNITS),
    "expanding": Direction(zoom=1.0 / MEAN_RADIUS_UNITS),
    "contracting": Direction(zoom=-1.0 / MEAN_RADIUS_UNITS),
    "still": Direction(),
}
MOTIONS: Final = tuple(DIRECTIONS)
"""The class names, in the order of the labels."""

PATTERNS: Final[tuple[Callable[[np.random.Generator], FloatImage], ...]] = (
    paint_texture,
    paint_plaid,
    paint_shapes,
)


@dataclass(frozen=True)
class Tremor:
    """A slight shake of two axes, as of a hand or a fan."""

    amplitudes: tuple[float, float]
    frequencies_hz: tuple[float, float]
    phases: tuple[float, float]

    def at(self, t_s: float) -> tuple[float, float]:
        """Return the shift at a time, (right, down), units."""
        x, y = (
            amplitude * math.sin(2 * math.pi * frequency * t_s + phase)
            for amplitude, frequency, phase in zip(
                self.amplitudes, self.frequencies_hz, self.phases, strict=True
            )
        )
        return x, y


@dataclass(frozen=True)
class Scene:
    """A picture and its motion past the sensor.

    Attributes:
        canvas: Log intensity, shape (CANVAS, CANVAS), periodic.
        direction: The picture's motion at unit speed.
        speed: Speed of the motion, units/s (at the mean radius, for turn and zoom).
        tremor: A shake added to the motion.
        anchor: The canvas point at the sensor's centre at time 0, texels.
        centre: Centre of turn and zoom, from the sensor's centre, units.
        scale: The picture's scale at time 0.
        duration_us: Length of the scene, µs.
    """

    canvas: FloatImage
    direction: Direction
    speed: float
    tremor: Tremor
    anchor: tuple[float, float]
    centre: tuple[float, float]
    scale: float
    duration_us: int

    def render(self, t_us: float, sensor: Sensor) -> FloatImage:
        """Return the log intensity at each pixel.

        Args:
            t_us: Time since the scene began, µs.
            sensor: The pixel grid.

        Returns:
            Log intensity, shape (height, width).
        """
        t_s = t_us * 1e-6
        moved = self.speed * t_s
        shake_right, shake_down = self.tremor.at(t_s)
        turn = -self.direction.turn * moved
        zoom = TEXELS_PER_UNIT / (self.scale * math.exp(self.direction.zoom * moved))
        cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
        x, y = _pixel_grid(sensor)
        x = x - self.centre[0] - self.direction.right * moved - shake_right
        y = y - self.centre[1] - self.direction.down * moved - shake_down
        texels = [self.anchor[0] - sin * y, self.anchor[1] + cos * y, cos * x, sin * x]
        places = _fixed_point(np.concatenate(texels))
        rows = places[: 2 * sensor.height].reshape(2, -1, 1)
        columns = places[2 * sensor.height :].reshape(2, 1, -1)
        across, down = rows + columns
        # The top bits of a coordinate are the texel: canvas[down, across].
        across >>= PERIOD_BITS - CANVAS_BITS
        down >>= PERIOD_BITS - CANVAS_BITS
        down <<= CANVAS_BITS
        down |= across
        intensity: FloatImage = self.canvas.take(down, mode="wrap")
        return intensity


def draw_scene(motion: str, rng: np.random.Generator) -> Scene:
    """Draw a random scene with a given motion.

    Args:
        motion: One of MOTIONS.
        rng: Source of the picture, contrast, speed, scale and phase.

    Raises:
        ValueError: No such motion.
    """
    if motion not in DIRECTIONS:
        raise ValueError(f"motion is one of {', '.join(MOTIONS)}, not {motion!r}")
    direction = DIRECTIONS[motion]
    speed = float(rng.uniform(*SPEED_UNITS_S))
    still = direction == Direction()
    zoom_us = math.log(ZOOM_SPAN) / (abs(direction.zoom) * speed + 1e-9) * 1e6
    scene = Scene(
        canvas=PATTERNS[rng.integers(len(PATTERNS))](rng),
        direction=direction,
        speed=speed,
        tremor=_draw_tremor(STILL_TREMOR_UNITS if still else MOVING_TREMOR_UNITS, rng),
        anchor=(float(rng.uniform(0, CANVAS)), float(rng.uniform(0, CANVAS))),
        centre=(float(rng.uniform(-12, 12)), float(rng.uniform(-12, 12))),
        scale=math.exp(rng.uniform(-LOG_SCALE, LOG_SCALE)),
        duration_us=int(min(zoom_us, LONGEST_SCENE_US)),
    )
    return scene if still else _exposed(scene, float(rng.uniform(*CHANGE_PER_MS)))


def _exposed(scene: Scene, change_per_ms: float) -> Scene:
    """Adjust a scene's contrast towards a total change of log intensity.

    The number of events is proportional to that change, so scenes of all speeds and
    patterns cause comparable numbers, as with a camera whose biases are set.
    """
    half = Sensor(LONG_SIDE_UNITS // 2, LONG_SIDE_UNITS // 2)
    moved = scene.render(PROBE_US, half) - scene.render(0.0, half)
    measured_per_ms = 4 * float(np.abs(moved).sum()) / (PROBE_US * 1e-3)
    gain = np.clip(change_per_ms / (measured_per_ms + 1e-9), *EXPOSURE)
    return replace(scene, canvas=scene.canvas * np.float32(gain))


def _draw_tremor(
    amplitude_units: tuple[float, float], rng: np.random.Generator
) -> Tremor:
    x, y = rng.uniform(*amplitude_units, 2).tolist()
    x_hz, y_hz = rng.uniform(*TREMOR_HZ, 2).tolist()
    x_phase, y_phase = rng.uniform(0, 2 * np.pi, 2).tolist()
    return Tremor((x, y), (x_hz, y_hz), (x_phase, y_phase))


@lru_cache(maxsize=8)
def _pixel_grid(
    sensor: Sensor,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the pixels' places, (width,) and (height,), units from the centre."""
    unit = LONG_SIDE_UNITS / max(sensor.width, sensor.height)
    right = (np.arange(sensor.width, dtype=np.float64) - (sensor.width - 1) / 2) * unit
    down = (np.arange(sensor.height, dtype=np.float64) - (sensor.height - 1) / 2) * unit
    return right, down


def _fixed_point(texels: npt.NDArray[np.float64]) -> npt.NDArray[np.uint32]:
    """Return canvas coordinates in fixed point, 2^32 to the canvas's period.

    Overflow of a sum then wraps it around the canvas.
    """
    periods = texels * (1.0 / CANVAS)
    periods -= np.floor(periods)
    return (periods * (1 << PERIOD_BITS)).astype(np.uint64).astype(np.uint32)

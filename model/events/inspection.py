"""What a recording holds: rates, the health of its timestamps, hot pixels, pictures.

`Inspection` takes a recording's chunks one by one, and needs memory for the sensor's
pixels alone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

Image = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

US_PER_S: Final = 1_000_000
WINDOW_US: Final = 10_000
"""The span over which the peak rate is measured."""
GAP_US: Final = 100_000
"""A pause between two events from which on it counts as a gap."""
MOST_PIXELS: Final = 1 << 24
CLOCKS: Final = (23, 24, 31, 32)
"""The widths of cameras' clocks, bits."""
HOT_FACTOR: Final = 20
HOT_EVENTS: Final = 100
"""A hot pixel has as many events, and HOT_FACTOR times those of 9 pixels in 10."""
MOST_HOT: Final = 10
GREY: Final = 128
BRIGHT_SHARE: Final = 0.99
"""The share of active pixels that an image shows without saturation."""


class HotPixel(NamedTuple):
    """A pixel with far more events than the others."""

    x: int
    y: int
    events: int


class Timing(NamedTuple):
    """The health of a recording's timestamps.

    Attributes:
        steps_back: How many events are older than the one before.
        largest_step_back_us: By how much at most, µs.
        gaps: How many pauses are of GAP_US or more.
        longest_gap_us: The longest pause, µs.
        clock_bits: The clock that steps back as that of so many bits does where it
            wraps; None where none does.
    """

    steps_back: int
    largest_step_back_us: int
    gaps: int
    longest_gap_us: int
    clock_bits: int | None


class Inspection:
    """Counts a recording's events, chunk by chunk."""

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self.events = self.on = self.outside = 0
        self.first_us: int | None = None
        self.last_us = 0
        self.peak_events = 0
        self._window: tuple[int, int] = (0, 0)
        self._steps_back = self._largest_back = self._gaps = self._longest = 0
        self._clock_bits: int | None = None
        self._shape = (sensor.height, sensor.width)
        pixels = min(sensor.width * sensor.height, MOST_PIXELS)
        self._has_pixels = pixels == sensor.width * sensor.height
        shown = pixels if self._has_pixels else 1
        self._counts = np.zeros((2, shown), np.int64)
        self._newest = np.full((2, shown), -1, np.int64)

    def add(self, events: Events) -> None:
        """Count a chunk."""
        if not events.size:
            return
        t_us = events["t"].astype(np.int64)
        self._add_times(t_us)
        self._add_rates(t_us)
        self.events += events.size
        self.on += int(np.count_nonzero(events["p"]))
        self._add_pixels(events, t_us)

    @property
    def duration_us(self) -> int:
        """From the first to the last event, µs."""
        return 0 if self.first_us is None else self.last_us - self.first_us

    @property
    def rate(self) -> float:
        """Mean events a second; 0 where all are of one moment."""
        return self.events * US_PER_S / self.duration_us if self.duration_us else 0.0

    @property
    def peak_rate(self) -> float:
        """The largest number of events in WINDOW_US, a second."""
        return max(self.peak_events, self._window[1]) * US_PER_S / WINDOW_US

    @property
    def timing(self) -> Timing:
        """The health of the timestamps."""
        return Timing(
            self._steps_back,
            self._largest_back,
            self._gaps,
            self._longest,
            self._clock_bits,
        )

    @property
    def active_pixels(self) -> int:
        """How many pixels have an event."""
        return int(np.count_nonzero(self._counts.sum(axis=0)))

    def hot_pixels(self) -> list[HotPixel]:
        """Return the pixels with far more events than others, the hottest first."""
        counts = self._counts.sum(axis=0)
        active = counts[counts > 0]
        if not active.size or not self._has_pixels:
            return []
        least = max(HOT_EVENTS, HOT_FACTOR * float(np.quantile(active, 0.9)))
        hot = np.flatnonzero(counts >= least)
        hot = hot[np.argsort(-counts[hot], kind="stable")]
        width = self.sensor.width
        return [HotPixel(int(i % width), int(i // width), int(counts[i])) for i in hot]

    def accumulated(self) -> Image:
        """Return all events as an image, (height, width): ON is white, OFF black."""
        balance = (self._counts[1] - self._counts[0]).astype(np.float64)
        active = np.abs(balance[balance != 0])
        full = float(np.quantile(active, BRIGHT_SHARE)) if active.size else 1.0
        return self._image(balance / full)

    def time_surface(self, tau_us: float | None = None) -> Image:
        """Return how recent each pixel's newest event is, (height, width).

        An ON event is white, an OFF event black, and fades to grey.

        Args:
            tau_us: How fast; by default a tenth of the recording, 50 ms at most.
        """
        tau_us = tau_us or max(min(50_000.0, self.duration_us / 10), 1.0)
        newest = self._newest.max(axis=0)
        sign = np.where(self._newest[1] >= self._newest[0], 1.0, -1.0)
        age_us = np.maximum(self.last_us - newest, 0)
        return self._image(np.where(newest < 0, 0.0, sign * np.exp(-age_us / tau_us)))

    def _image(self, values: npt.NDArray[np.float64]) -> Image:
        """Return values from -1, black, to 1, white, as an image."""
        if not self._has_pixels:
            return np.full((1, 1), GREY, np.uint8)
        grey = GREY + np.clip(values, -1, 1) * (GREY - 1)
        return grey.round().astype(np.uint8).reshape(self._shape)

    def _add_times(self, t_us: Int64s) -> None:
        before_us = self.last_us if self.events else int(t_us[0])
        steps = np.diff(t_us, prepend=np.int64(before_us))
        back = -steps[steps < 0]
        self._steps_back += back.size
        if back.size:
            self._largest_back = max(self._largest_back, int(back.max()))
            self._clock_bits = self._clock_bits or _clock_bits(int(back.max()))
        self._gaps += int(np.count_nonzero(steps >= GAP_US))
        self._longest = max(self._longest, int(steps.max()))
        if self.first_us is None:
            self.first_us = int(t_us[0])
        self.last_us = int(t_us[-1])

    def _add_rates(self, t_us: Int64s) -> None:
        windows, counts = np.unique(t_us // WINDOW_US, return_counts=True)
        window, count = self._window
        if windows[0] == window:
            counts[0] += count
        self.peak_events = max(self.peak_events, count, int(counts.max()))
        self._window = int(windows[-1]), int(counts[-1])

    def _add_pixels(self, events: Events, t_us: Int64s) -> None:
        x, y = events["x"].astype(np.int64), events["y"].astype(np.int64)
        inside = (x < self.sensor.width) & (y < self.sensor.height)
        self.outside += int(events.size - np.count_nonzero(inside))
        if not self._has_pixels:
            return
        pixel = (y * self.sensor.width + x)[inside]
        on = events["p"][inside].astype(np.intp)
        size = self._counts.shape[1]
        flat = on * size + pixel
        self._counts += np.bincount(flat, minlength=2 * size).reshape(2, size)
        np.maximum.at(self._newest.reshape(-1), flat, t_us[inside])


def _clock_bits(step_us: int) -> int | None:
    """Return the clock that wraps with such a step back, of half its range or more."""
    return next((b for b in CLOCKS if 1 << (b - 1) <= step_us <= 1 << b), None)

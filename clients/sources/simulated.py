"""Simulated cameras: before moving scenes, or with nothing but noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from saccade.clients.errors import UnplayableSource
from saccade.clients.sources.source import Source, Timeline, read_settings
from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.camera import DEFAULT_SENSOR, MotionStream
from saccade.model.events.types import EVENT_DTYPE, Events

SIMULATED: Final = "sim:"
MOTIONS_MODEL: Final = "motions"
US_PER_S: Final = 1_000_000
MOTIONS_DEFAULTS: Final = {"seed": 1.0, "seconds": 10.0, "segment": 2.0}
"""Seed of the scenes; how long the camera films, and each motion lasts, s."""
NOISE_DEFAULTS: Final = {"seed": 1.0, "seconds": 10.0, "rate": 10_000.0}
"""Seed of the noise; how long the camera films, s; events of the whole sensor, 1/s."""
NOISE_CHUNK_US: Final = 10_000


def open_simulated(text: str, sensor: Sensor | None = None) -> Source:
    """Open a simulated camera such as `sim:noise?rate=50000`.

    `sensor` is that of `sim:noise`; moving scenes have their own.
    Raises UnplayableSource.
    """
    name, _, query = text.removeprefix(SIMULATED).partition("?")
    match name:
        case "motions":
            return _motions(text, query)
        case "noise":
            return _noise(text, query, sensor or DEFAULT_SENSOR)
    known = "the simulated cameras are sim:motions and sim:noise"
    raise UnplayableSource(text, known)


def _motions(text: str, query: str) -> Source:
    settings = read_settings(text, query, MOTIONS_DEFAULTS)
    stream = MotionStream(
        seed=int(settings["seed"]), segment_us=_chunked_us(float(settings["segment"]))
    )
    timeline = Timeline()
    return Source(
        name=text,
        sensor=stream.sensor,
        chunks=_film(stream, _chunked_us(float(settings["seconds"])), timeline),
        model=MOTIONS_MODEL,
        truth=timeline,
        changes=True,
    )


def _chunked_us(seconds: float) -> int:
    chunk_us = MotionStream.chunk_us
    return max(1, round(seconds * US_PER_S / chunk_us)) * chunk_us


def _film(stream: MotionStream, until_us: int, timeline: Timeline) -> Iterator[Events]:
    t_us = 0
    for motion, events in stream:
        if t_us >= until_us:
            return
        timeline.append(t_us, motion)
        t_us += stream.chunk_us
        yield events


def _noise(text: str, query: str, sensor: Sensor) -> Source:
    settings = read_settings(text, query, NOISE_DEFAULTS)
    seed, seconds, rate = (
        float(settings[name]) for name in ("seed", "seconds", "rate")
    )
    until_us = max(NOISE_CHUNK_US, round(seconds * US_PER_S))
    return Source(
        name=text,
        sensor=sensor,
        chunks=_noise_events(np.random.default_rng(int(seed)), sensor, until_us, rate),
        changes=True,
    )


def _noise_events(
    rng: np.random.Generator, sensor: Sensor, until_us: int, rate_hz: float
) -> Iterator[Events]:
    """Yield events that are independent of each other, as a dark sensor's are."""
    for begin_us in range(0, until_us, NOISE_CHUNK_US):
        length_us = min(NOISE_CHUNK_US, until_us - begin_us)
        count = int(rng.poisson(rate_hz * length_us / US_PER_S))
        events = np.empty(count, EVENT_DTYPE)
        events["t"] = np.sort(rng.integers(begin_us, begin_us + length_us, count))
        events["x"] = rng.integers(0, sensor.width, count)
        events["y"] = rng.integers(0, sensor.height, count)
        events["p"] = rng.integers(0, 2, count)
        yield events

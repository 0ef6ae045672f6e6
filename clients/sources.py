"""Sources of events to stream: recordings and simulated cameras."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from saccade.clients.errors import UnplayableSource
from saccade.model.events.errors import RecordingError
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.camera import MotionStream
from saccade.model.events.types import Events

SIMULATED: Final = "sim:"
MOTIONS_MODEL: Final = "motions"
US_PER_S: Final = 1_000_000
SIMULATION_DEFAULTS: Final = {"seed": 1.0, "seconds": 10.0, "segment": 2.0}
"""Seed of the scenes; how long the camera films, and each motion lasts, s."""


class Timeline:
    """The true labels of a simulated scene, each with the time when it begins."""

    def __init__(self) -> None:
        self._starts_us: list[int] = []
        self._labels: list[str] = []

    def append(self, t_us: int, label: str) -> None:
        """Add the label that is true from `t_us` on; call in order of time."""
        if not self._labels or self._labels[-1] != label:
            self._starts_us.append(t_us)
            self._labels.append(label)

    def at(self, t_us: int) -> str | None:
        """Return the label that is true at `t_us`; None before the first."""
        place = bisect_right(self._starts_us, t_us)
        return self._labels[place - 1] if place else None


@dataclass(frozen=True)
class Source:
    """Events to stream, with what is known about them.

    Attributes:
        name: The name to show to the user.
        sensor: The geometry of its events.
        chunks: Its events, in order of time.
        model: The name of the model that was trained on such events, if there is one.
        truth: The true labels; empty where they are not known.
        changes: Whether the true label changes, so that old events must fade from the
            scores.
    """

    name: str
    sensor: Sensor
    chunks: Iterator[Events]
    model: str | None = None
    truth: Timeline = field(default_factory=Timeline)
    changes: bool = False


def open_source(
    text: str, sensor: Sensor | None = None, clock_bits: int | None = None
) -> Source:
    """Open a recording or a simulated camera.

    Args:
        text: The path of a recording, or `sim:motions`, which may go on with
            `?seed=…&seconds=…&segment=…`.
        sensor: The geometry of a recording whose file does not hold it.
        clock_bits: A recording's timestamps wrap after 2^clock_bits µs.

    Raises:
        UnplayableSource: No such file or simulated camera, or no readable events.
    """
    if text.startswith(SIMULATED):
        return _simulated(text)
    path = Path(text)
    if not path.exists():
        raise UnplayableSource(text, "there is no such file")
    try:
        recording = open_recording(path, sensor, clock_bits)
    except RecordingError as error:
        raise UnplayableSource(text, error.reason) from error
    return Source(path.name, recording.sensor, iter(recording.events))


def _simulated(text: str) -> Source:
    name, _, query = text.removeprefix(SIMULATED).partition("?")
    if name != "motions":
        raise UnplayableSource(text, "the one simulated camera is sim:motions")
    settings = _settings(text, query)
    stream = MotionStream(
        seed=int(settings["seed"]), segment_us=_chunked_us(settings["segment"])
    )
    timeline = Timeline()
    return Source(
        name=text,
        sensor=stream.sensor,
        chunks=_film(stream, _chunked_us(settings["seconds"]), timeline),
        model=MOTIONS_MODEL,
        truth=timeline,
        changes=True,
    )


def _settings(text: str, query: str) -> dict[str, float]:
    settings = dict(SIMULATION_DEFAULTS)
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in settings:
            known = ", ".join(settings)
            raise UnplayableSource(text, f"no setting {name!r}; there are {known}")
        try:
            settings[name] = float(value)
        except ValueError:
            raise UnplayableSource(text, f"{name} is no number: {value!r}") from None
        if not 0 <= settings[name] < 1e9 or (name != "seed" and not settings[name]):
            raise UnplayableSource(text, f"{name} is out of range: {value}")
    return settings


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

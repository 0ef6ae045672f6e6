"""The geometry of a recording's sensor, and where it is known from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

from saccade.model.events.errors import MalformedRecording
from saccade.model.events.reading import Findings, Origin, ReadOptions
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

CAMERAS: Final = {
    "DVS128": Sensor(128, 128),
    "DAVIS208": Sensor(208, 192),
    "DAVIS240": Sensor(240, 180),
    "DAVIS346": Sensor(346, 260),
    "DAVIS640": Sensor(640, 480),
}
"""iniVation's cameras, by the beginning of the names that AEDAT headers give them."""


def parse_sensor(path: Path, width: str, height: str) -> Sensor:
    """Parse the width and height of a header.

    Raises:
        MalformedRecording: They are no integers, or out of range.
    """
    try:
        return Sensor(int(width), int(height))
    except ValueError as error:
        raise MalformedRecording(path, f"geometry {width}x{height}: {error}") from error


def find_camera(name: str) -> str | None:
    """Return the key of CAMERAS that a camera's name begins with, or None."""
    return next((key for key in CAMERAS if name.upper().startswith(key)), None)


Known: TypeAlias = tuple[Sensor, Origin] | None
"""What a file says of its geometry, and where it says it; None if it does not."""


def choose_sensor(
    options: ReadOptions,
    findings: Findings,
    scan: Callable[[], Iterable[Events]],
    known: Known = None,
    common: tuple[Sensor, ...] = (),
) -> tuple[Sensor, Origin]:
    """Choose a recording's geometry: the file's, the caller's, the model's or a guess.

    The file is right unless an event lies outside and the caller says otherwise.
    Its events are read only where that decides.

    Args:
        options: The caller's and the model's geometry.
        findings: Receives a warning where the caller's geometry is not taken.
        scan: Returns all of the recording's events, in chunks.
        known: What the file says.
        common: Sensors to prefer in a guess, in this order.

    Returns:
        The geometry, and where it is from.
    """
    given = options.sensor
    if known and given in (None, known[0]):
        return known
    if given and not known:
        return given, "given"
    bounds = event_bounds(scan())
    if known and given:
        if not holds(known[0], bounds):
            return given, "given"
        findings.warn(f"its sensor is {known[0]}, as the file says, not {given}")
        return known
    if options.model_sensor and holds(options.model_sensor, bounds):
        return options.model_sensor, "model"
    return next((s for s in common if holds(s, bounds)), bounds), "guess"


def event_bounds(chunks: Iterable[Events]) -> Sensor:
    """Return the smallest sensor that holds every event.

    Args:
        chunks: All of a recording's events; read to the end.
    """
    width = height = 1
    for events in chunks:
        if events.size:
            width = max(width, int(events["x"].max()) + 1)
            height = max(height, int(events["y"].max()) + 1)
    return Sensor(width, height)


def holds(sensor: Sensor, bounds: Sensor) -> bool:
    """Return whether a sensor holds all of another's pixels."""
    return bounds.width <= sensor.width and bounds.height <= sensor.height

"""The geometry of a recording's sensor: a header's, a named camera's, or bounds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from saccade.model.events.errors import MalformedRecording
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


def smallest_sensor(
    chunks: Iterable[Events], candidates: tuple[Sensor, ...] = ()
) -> Sensor:
    """Return the first candidate that holds every event, else the events' bounds.

    Args:
        chunks: All of a recording's events; read to the end.
        candidates: Sensors to prefer, in this order.
    """
    width = height = 1
    for events in chunks:
        if events.size:
            width = max(width, int(events["x"].max()) + 1)
            height = max(height, int(events["y"].max()) + 1)
    bounds = Sensor(width, height)
    fitting = (s for s in candidates if s.width >= width and s.height >= height)
    return next(fitting, bounds)

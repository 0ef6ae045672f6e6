"""Finding a sensor's geometry where a file says it, or does not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from saccade.model.events.errors import MalformedRecording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events


def parse_sensor(path: Path, width: str, height: str) -> Sensor:
    """Read a header's geometry.

    Raises:
        MalformedRecording: It is not a geometry.
    """
    try:
        return Sensor(int(width), int(height))
    except ValueError as error:
        raise MalformedRecording(path, f"geometry {width}x{height}: {error}") from error


def smallest_sensor(
    chunks: Iterable[Events], candidates: tuple[Sensor, ...] = ()
) -> Sensor:
    """Return a sensor that holds every event.

    Args:
        chunks: All of a recording's events; read to the end.
        candidates: Sensors to prefer, the first that fits.

    Returns:
        A candidate, else the events' own bounds.
    """
    width = height = 1
    for events in chunks:
        if events.size:
            width = max(width, int(events["x"].max()) + 1)
            height = max(height, int(events["y"].max()) + 1)
    bounds = Sensor(width, height)
    fitting = (s for s in candidates if s.width >= width and s.height >= height)
    return next(fitting, bounds)

"""Sources that are played at the pace of their timestamps: recordings, simulations."""

from __future__ import annotations

from pathlib import Path

from saccade.clients.errors import UnplayableSource
from saccade.clients.sources.simulated import SIMULATED, open_simulated
from saccade.clients.sources.source import Source
from saccade.model.events.errors import RecordingError
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor


def open_source(
    text: str, sensor: Sensor | None = None, clock_bits: int | None = None
) -> Source:
    """Open a recording, or a simulated camera such as `sim:motions?seed=7&seconds=60`.

    `sensor` and `clock_bits` describe a recording whose file does not.
    Raises UnplayableSource.
    """
    if text.startswith(SIMULATED):
        return open_simulated(text, sensor)
    path = Path(text)
    if not path.exists():
        raise UnplayableSource(text, "there is no such file")
    try:
        recording = open_recording(path, sensor, clock_bits)
    except RecordingError as error:
        raise UnplayableSource(text, error.reason) from error
    return Source(
        path.name,
        recording.sensor,
        iter(recording.events),
        findings=recording.findings,
    )

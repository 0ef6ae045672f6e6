"""Reader of N-MNIST's recordings: five bytes an event.

    byte 0   x
    byte 1   y
    byte 2   p in the top bit, then the timestamp's top 7 bits
    byte 3   timestamp, middle
    byte 4   timestamp, low; µs, 23 bits in all

Source:
    Orchard et al. 2015, doi 10.3389/fnins.2015.00437.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from saccade.model.events.errors import MalformedRecording
from saccade.model.events.geometry import choose_sensor
from saccade.model.events.reading import Findings, Opened, ReadOptions
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

SENSOR: Final = Sensor(34, 34)
RECORD_BYTES: Final = 5


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open one N-MNIST file as one chunk, for a file holds 300 ms.

    Raises:
        MalformedRecording: The length is not a multiple of five bytes.
    """
    events, findings = read(path), Findings()
    sensor, origin = choose_sensor(options, findings, lambda: [events], None, (SENSOR,))
    return Opened(sensor, origin, iter([events]), findings=findings)


def read(path: Path) -> Events:
    """Read one whole N-MNIST file, with the timestamps as stored.

    Raises:
        MalformedRecording: The length is not a multiple of five bytes.
    """
    data = path.read_bytes()
    if len(data) % RECORD_BYTES:
        reason = f"{len(data)} bytes are not a multiple of {RECORD_BYTES}: truncated?"
        raise MalformedRecording(path, reason)
    columns = np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)
    time = columns[:, 2:].astype(np.int64)
    events = np.empty(len(columns), EVENT_DTYPE)
    events["t"] = (time[:, 0] & 0x7F) << 16 | time[:, 1] << 8 | time[:, 2]
    events["x"] = columns[:, 0]
    events["y"] = columns[:, 1]
    events["p"] = columns[:, 2] >> 7
    return events

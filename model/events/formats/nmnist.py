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

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from saccade.model.events.geometry import choose_sensor
from saccade.model.events.reading import Findings, Opened, ReadOptions, end_early
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

SENSOR: Final = Sensor(34, 34)
RECORD_BYTES: Final = 5
CHUNK_EVENTS: Final = 1 << 16


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open one N-MNIST file.

    Raises:
        MalformedRecording: The file ends inside an event.
    """
    findings = Findings()
    if path.stat().st_size % RECORD_BYTES:
        end_early(path, "it ends inside an event", options, findings)
    scan = partial(_decoded, path)
    sensor, origin = choose_sensor(options, findings, scan, None, (SENSOR,))
    return Opened(sensor, origin, scan(), findings=findings, format="N-MNIST")


def _decoded(path: Path) -> Iterator[Events]:
    with path.open("rb") as file:
        while data := file.read(CHUNK_EVENTS * RECORD_BYTES):
            whole = len(data) - len(data) % RECORD_BYTES
            columns = np.frombuffer(data[:whole], np.uint8).reshape(-1, RECORD_BYTES)
            time = columns[:, 2:].astype(np.int64)
            events = np.empty(len(columns), EVENT_DTYPE)
            events["t"] = (time[:, 0] & 0x7F) << 16 | time[:, 1] << 8 | time[:, 2]
            events["x"] = columns[:, 0]
            events["y"] = columns[:, 1]
            events["p"] = columns[:, 2] >> 7
            yield events

"""Reader of N-MNIST's and N-Caltech101's recordings: five bytes an event.

    byte 0   x
    byte 1   y; 240 marks that the clock has run over, and is no event
    byte 2   p in the top bit, then the timestamp's top 7 bits
    byte 3   timestamp, middle
    byte 4   timestamp, low; µs, 23 bits in all

There is no header. N-MNIST is of 34x34 pixels; a file with an event elsewhere is taken
for N-Caltech101's, of 240x180.

Source:
    Orchard et al. 2015, doi 10.3389/fnins.2015.00437, and its authors' reading script.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from saccade.model.events.geometry import choose_sensor, event_bounds, holds
from saccade.model.events.reading import Findings, Opened, ReadOptions, end_early
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

SENSOR: Final = Sensor(34, 34)
CALTECH: Final = Sensor(240, 180)
RECORD_BYTES: Final = 5
CHUNK_EVENTS: Final = 1 << 16
OVERFLOW: Final = 240
OVERFLOW_US: Final = 1 << 13


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open a file of N-MNIST or N-Caltech101.

    Raises:
        MalformedRecording: The file ends inside an event.
    """
    findings = Findings()
    if path.stat().st_size % RECORD_BYTES:
        end_early(path, "it ends inside an event", options, findings)
    scan = partial(_decoded, path)
    if options.sensor is None and holds(SENSOR, event_bounds(scan())):
        return Opened(SENSOR, "header", scan(), (), findings, "N-MNIST")
    sensor, origin = choose_sensor(options, findings, scan, None, (CALTECH,))
    return Opened(sensor, origin, scan(), (), findings, "N-Caltech101")


def _decoded(path: Path) -> Iterator[Events]:
    late_us = 0
    with path.open("rb") as file:
        while data := file.read(CHUNK_EVENTS * RECORD_BYTES):
            whole = len(data) - len(data) % RECORD_BYTES
            columns = np.frombuffer(data[:whole], np.uint8).reshape(-1, RECORD_BYTES)
            time = columns[:, 2:].astype(np.int64)
            overflows = columns[:, 1] == OVERFLOW
            after_us = late_us + OVERFLOW_US * np.cumsum(overflows, dtype=np.int64)
            events = np.empty(len(columns), EVENT_DTYPE)
            events["t"] = (time[:, 0] & 0x7F) << 16 | time[:, 1] << 8 | time[:, 2]
            events["t"] += after_us
            events["x"] = columns[:, 0]
            events["y"] = columns[:, 1]
            events["p"] = columns[:, 2] >> 7
            late_us = int(after_us[-1]) if after_us.size else late_us
            yield events[~overflows]

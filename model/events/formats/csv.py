"""Reader of CSV files: a header line such as t,x,y,p, then one event a line.

The columns may be in any order and have any name that `types.as_events` accepts;
other columns are ignored. The format has no geometry: the file is scanned once, and
the sensor is the events' bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from saccade.model.events.errors import EventsError, MalformedRecording
from saccade.model.events.geometry import choose_sensor
from saccade.model.events.reading import Findings, Opened, ReadOptions
from saccade.model.events.types import FIELD_NAMES, Events, as_events

CHUNK_LINES: Final = 1 << 15


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open a .csv file.

    Raises:
        MalformedRecording: The header lacks a column, or a line holds something
            else than integers in range; names the first line of the line's chunk.
    """
    findings = Findings()
    sensor, origin = choose_sensor(options, findings, lambda: _chunks(path))
    return Opened(sensor, origin, _chunks(path), findings=findings)


def _chunks(path: Path) -> Iterator[Events]:
    with path.open(encoding="utf-8", errors="replace") as file:
        columns = _columns(path, file.readline())
        line = 2
        while rows := list(islice(file, CHUNK_LINES)):
            try:
                table = np.loadtxt(
                    rows, np.int64, delimiter=",", usecols=columns, ndmin=2
                )
                yield as_events(
                    table.view([(name, "i8") for name in FIELD_NAMES])[:, 0]
                )
            except (EventsError, ValueError) as error:
                reason = f"in the lines from {line} on: {error}"
                raise MalformedRecording(path, reason) from error
            line += len(rows)


def _columns(path: Path, header: str) -> list[int]:
    """Return the indices of the columns t, x, y and p."""
    present = [name.strip().lower() for name in header.split(",")]
    columns = []
    for field, names in FIELD_NAMES.items():
        found = [present.index(name) for name in names if name in present]
        if not found:
            reason = f"no column {field} in its first line {header.strip()[:60]!r}"
            raise MalformedRecording(path, reason)
        columns.append(found[0])
    return columns

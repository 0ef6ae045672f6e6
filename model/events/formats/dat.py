"""Reader of Prophesee's DAT files: a text header, then 8 bytes an event.

    u32  t_us                  wraps
    u32  p << 28 | y << 14 | x in version 2, p << 17 | y << 9 | x before

Two bytes between header and events give the events' type (0 "2d" or 12 "CD", the
same layout) and size. A header without a version is an old ATIS's or a writer's that
left it out: the first events show which, for old pixels have 18 bits. Where the
header has no width and height (N-CARS), the file is scanned once, and the sensor is
the events' bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from saccade.model.events.clock import Unwrapper
from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.formats.raw import read_header
from saccade.model.events.geometry import Known, choose_sensor, parse_sensor
from saccade.model.events.reading import Findings, Opened, ReadOptions, end_early
from saccade.model.events.types import EVENT_DTYPE, Events

CHUNK_EVENTS: Final = 1 << 16
RECORD_BYTES: Final = 8
TIME_BITS: Final = 32
EVENT_TYPES: Final = (0, 12)


class Layout(NamedTuple):
    """How many bits x and y have in an event's second word; p follows."""

    x_bits: int
    y_bits: int


LAYOUTS: Final = {"1": Layout(9, 8), "2": Layout(14, 14)}
"""The layout of each version."""


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open a DAT file.

    Raises:
        MalformedRecording: The file ends before or inside an event.
        UnsupportedRecording: The version or the type of event is another.
    """
    with path.open("rb") as file:
        header = read_header(file)
        kind = file.read(2)
        begin = file.tell()
        first = file.read(CHUNK_EVENTS * RECORD_BYTES)
    version = header.get("version") or _shown_version(first)
    if version not in LAYOUTS:
        raise UnsupportedRecording(path, f"DAT version {version}; 1 and 2 are read")
    if len(kind) < 2:
        raise MalformedRecording(path, "truncated: it ends in its header")
    if kind[0] not in EVENT_TYPES or kind[1] != RECORD_BYTES:
        reason = f"events of type {kind[0]} and {kind[1]} bytes, not CD of 8"
        raise UnsupportedRecording(path, reason)
    findings = Findings()
    if (path.stat().st_size - begin) % RECORD_BYTES:
        end_early(path, "it ends inside an event", options, findings)
    known: Known = None
    if "width" in header and "height" in header:
        known = parse_sensor(path, header["width"], header["height"]), "header"
    scan = partial(_decoded, path, begin, LAYOUTS[version])
    sensor, origin = choose_sensor(options, findings, scan, known)
    name = f"Prophesee DAT {version}"
    return Opened(sensor, origin, scan(findings), findings=findings, format=name)


def _shown_version(data: bytes) -> str:
    words = np.frombuffer(data, "<u4", len(data) // RECORD_BYTES * 2)[1::2]
    return "2" if not words.size or words.max() >> sum(LAYOUTS["1"]) > 1 else "1"


def _decoded(
    path: Path, begin: int, layout: Layout, findings: Findings | None = None
) -> Iterator[Events]:
    unwrapper = Unwrapper(TIME_BITS)
    with path.open("rb") as file:
        file.seek(begin)
        while data := file.read(CHUNK_EVENTS * RECORD_BYTES):
            whole = len(data) - len(data) % RECORD_BYTES
            words = np.frombuffer(data[:whole], "<u4").reshape(-1, 2)
            pixels = words[:, 1]
            events = np.empty(len(words), EVENT_DTYPE)
            events["t"] = unwrapper.unwrap(words[:, 0])
            events["x"] = pixels & (1 << layout.x_bits) - 1
            events["y"] = pixels >> layout.x_bits & (1 << layout.y_bits) - 1
            events["p"] = pixels >> sum(layout) & 1
            if findings:
                findings.wraps = unwrapper.wraps
            yield events

"""Benchmark of ingest: what a server spends on a message until it has its tokens.

    python -m benchmarks.ingest [--quick] [--json PATH]

On one core: a message is parsed, its records are unpacked, checked against the sensor
and the clock, fitted to the model's sensor and turned into tokens, and the frame is
accounted for and acknowledged. There is no socket and no engine. Each case is measured
in compiled code and by the reference in NumPy, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from saccade.model.events.encodings.packed import pack
from saccade.model.events.fit import Fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.ingest import NumpyIngest
from saccade.model.tokens import TimedTokens, Tokenization
from saccade.server.protocol.codec import Wire, encode_client
from saccade.server.protocol.conversation import Conversation, Feed, Limits
from saccade.server.protocol.ingest import fastest
from saccade.server.protocol.messages import EventsFrame, Open

MODEL_SENSOR: Final = Sensor(128, 128)
TOKENIZATION: Final = Tokenization("linear", MODEL_SENSOR)
LARGE_SENSOR: Final = Sensor(640, 480)
FRAME_EVENTS: Final = (256, 4096, 32768)
EVENT_RATE_PER_US: Final = 0.1
FRAMES: Final = 16
"""Frames in one timed call."""
LEAST_TURNS: Final = 5
BUDGET_S: Final = 20.0
QUICK_BUDGET_S: Final = 2.0


class Way(NamedTuple):
    """A case's session: its sensor, its fit to the model's, its clock."""

    name: str
    sensor: Sensor
    fit: Fit
    clock_bits: int | None


WAYS: Final = (
    Way("packed", MODEL_SENSOR, "reject", None),
    Way("packed, a clock of 24 bits", MODEL_SENSOR, "reject", 24),
    Way("packed, 640x480 scaled", LARGE_SENSOR, "scale", None),
    Way("packed, 640x480 cropped", LARGE_SENSOR, "crop", None),
)


READERS: Final = {"compiled": fastest(), "NumPy": NumpyIngest}


class Row(NamedTuple):
    """One line of the result."""

    case: str
    reader: str
    frame_events: int
    frame_us: float
    events_per_second: float


class Ingest:
    """The ingest of one session, and the client's frames for it."""

    def __init__(self, way: Way, reader: str, frame_events: int) -> None:
        self._conversation = Conversation(Limits(), READERS[reader])
        self._conversation.receive(
            Open("any", sensor=way.sensor, fit=way.fit, clock_bits=way.clock_bits)
        )
        self._conversation.begin(TOKENIZATION)
        self._events = frame(way.sensor, frame_events)
        self._base_us, self._seq = 0, 0
        self._records = pack(self._events, 0)

    def next_message(self) -> Wire:
        """Return the next frame as a websocket message."""
        self._seq += 1
        message = EventsFrame(self._seq, self._records, t_base_us=self._base_us)
        self._base_us += int(self._events["t"][-1])
        return encode_client(message)

    def take(self, message: Wire) -> TimedTokens:
        """Return a frame's tokens, by all steps of a server before its session."""
        (request,) = self._conversation.read(message)
        assert isinstance(request, Feed), request
        self._conversation.ledger.settle(0)
        return request.chunk


def frame(sensor: Sensor, size: int) -> Events:
    """Return a frame of random events on a sensor, sorted by time."""
    rng = np.random.default_rng(0)
    events = np.empty(size, EVENT_DTYPE)
    events["t"] = np.cumsum(rng.exponential(1 / EVENT_RATE_PER_US, size)).astype(int)
    events["x"] = rng.integers(0, sensor.width, size)
    events["y"] = rng.integers(0, sensor.height, size)
    events["p"] = rng.integers(0, 2, size)
    return events


def measure(
    ways: Sequence[Way], sizes: Sequence[int], frames: int, budget_s: float
) -> list[Row]:
    """Time every way and reader with every frame size, in turn."""
    cases = [
        (way, reader, size, Ingest(way, reader, size))
        for way in ways
        for size in sizes
        for reader in READERS
    ]
    spent: list[list[float]] = [[] for _ in cases]
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end or len(spent[-1]) < LEAST_TURNS:
        for (*_, ingest), seconds in zip(cases, spent, strict=True):
            messages = [ingest.next_message() for _ in range(frames)]
            start = time.perf_counter()
            for message in messages:
                ingest.take(message)
            seconds.append(time.perf_counter() - start)
    rows = []
    for (way, reader, size, _), seconds in zip(cases, spent, strict=True):
        frame_s = float(np.median(seconds)) / frames
        rows.append(Row(way.name, reader, size, 1e6 * frame_s, size / frame_s))
    return rows


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table."""
    shown = Table(title="ingest, one core")
    shown.add_column("case")
    shown.add_column("read in")
    for heading in ("events a frame", "µs a frame", "events/s"):
        shown.add_column(heading, justify="right")
    for row in rows:
        rate, frame_us = f"{row.events_per_second:,.0f}", f"{row.frame_us:,.1f}"
        shown.add_row(row.case, row.reader, f"{row.frame_events:,}", frame_us, rate)
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest")
    parser.add_argument("--quick", action="store_true", help="end within seconds")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    budget_s = QUICK_BUDGET_S if options.quick else BUDGET_S
    rows = measure(WAYS, FRAME_EVENTS, FRAMES, budget_s)
    Console().print(table(rows))
    if options.json:
        written = {"cases": [row._asdict() for row in rows]}
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

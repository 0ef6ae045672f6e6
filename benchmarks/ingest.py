"""Benchmark of the host path: events per second from a message to tokens and gaps.

    python -m benchmarks.ingest [--quick] [--json PATH]

The host path is the work of a server on a frame before the engine, here on one core:
msgpack is parsed, records are unpacked, checked against the sensor and the clock,
fitted to the model's sensor, and turned into tokens and integration timesteps. There is
no socket and no engine.
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
from saccade.model.tokens import GapCounter, TokenChunk, Tokenization
from saccade.server.protocol.codec import Wire, encode_client
from saccade.server.protocol.conversation import Conversation, Feed, Limits
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


class Row(NamedTuple):
    """One line of the result."""

    case: str
    frame_events: int
    events_per_second: float


class Ingest:
    """The host path of one session, and the client's frames for it."""

    def __init__(self, way: Way, frame_events: int) -> None:
        self._conversation = Conversation(Limits())
        self._conversation.receive(
            Open("any", sensor=way.sensor, fit=way.fit, clock_bits=way.clock_bits)
        )
        self._conversation.begin(TOKENIZATION)
        self._gaps = GapCounter("preceding")
        self._events = frame(way.sensor, frame_events)
        self._base_us, self._seq = 0, 0
        self._records = pack(self._events, 0)

    def next_message(self) -> Wire:
        """Return the next frame as a websocket message."""
        self._seq += 1
        message = EventsFrame(self._seq, self._records, t_base_us=self._base_us)
        self._base_us += int(self._events["t"][-1])
        return encode_client(message)

    def take(self, messages: Sequence[Wire]) -> list[TokenChunk]:
        """Return the tokens of frames, by all steps of a server before the engine."""
        chunks = []
        for message in messages:
            for request in self._conversation.read(message):
                assert isinstance(request, Feed), request
                chunks.append(self._gaps.feed(request.chunk))
            self._conversation.ledger.settle(0)
        return chunks


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
    """Time every way with every frame size, in turn."""
    cases = [(way, size, Ingest(way, size)) for way in ways for size in sizes]
    spent: list[list[float]] = [[] for _ in cases]
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end or len(spent[-1]) < LEAST_TURNS:
        for (_, _, ingest), seconds in zip(cases, spent, strict=True):
            messages = [ingest.next_message() for _ in range(frames)]
            start = time.perf_counter()
            ingest.take(messages)
            seconds.append(time.perf_counter() - start)
    return [
        Row(way.name, size, frames * size / float(np.median(seconds)))
        for (way, size, _), seconds in zip(cases, spent, strict=True)
    ]


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table."""
    shown = Table(title="host path, events per second, one core")
    shown.add_column("case")
    shown.add_column("events a frame", justify="right")
    shown.add_column("events/s", justify="right")
    for row in rows:
        rate = f"{row.events_per_second:,.0f}"
        shown.add_row(row.case, f"{row.frame_events:,}", rate)
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

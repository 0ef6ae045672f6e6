"""The command `saccade classify`: classify whole recordings through REST."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from saccade.clients import http
from saccade.clients.commands.arguments import base_parser, choose_model, print_message
from saccade.clients.commands.tolerance import left_out
from saccade.clients.display.text import answer_table
from saccade.clients.http import Answer
from saccade.clients.sources import Source, open_source
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

COMMAND: Final = "classify"
BATCH_FILES: Final = 32
BATCH_EVENTS: Final = 2_000_000
"""16 MB as packed records, well below the largest request that a server accepts."""

DESCRIPTION: Final = """\
Classify whole recordings: each FILE gets one label, from all of its events.
"""
EPILOG: Final = """\
example:
  saccade classify digits/*.bin --model nmnist
"""


class Loaded(NamedTuple):
    """A recording in memory."""

    name: str
    sensor: Sensor
    events: Events


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = base_parser(COMMAND, DESCRIPTION, EPILOG)
    parser.add_argument("files", metavar="FILE", nargs="+", help="a recording")
    parser.add_argument("--json", action="store_true", help="write the table as JSON")
    return parser


def execute(options: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    answers: list[tuple[str, Answer]] = []
    model = options.model
    recordings = (
        load(name, open_source(name, options.sensor, options.clock_bits))
        for name in options.files
    )
    for batch in _batches(recordings):
        sensor = batch[0].sensor
        model = model or choose_model(
            options.url, sensor, partial(print_message, COMMAND)
        )
        found = http.classify(
            options.url,
            model,
            [recording.events for recording in batch],
            sensor=sensor,
            fit=options.fit,
            invalid=options.invalid,
            sort_within_us=options.sort_within_us,
        )
        names = [recording.name for recording in batch]
        answers.extend(zip(names, found, strict=True))
    for name, answer in answers:
        if (remark := left_out(answer)) is not None:
            print_message(COMMAND, f"{name}: {remark}")
    sys.stdout.write(_as_json(answers) if options.json else answer_table(answers))
    return 0


def _as_json(answers: list[tuple[str, Answer]]) -> str:
    rows = [{"file": name, **asdict(answer)} for name, answer in answers]
    return json.dumps(rows, indent=2) + "\n"


def load(name: str, source: Source) -> Loaded:
    """Read a whole recording."""
    chunks = [np.empty(0, EVENT_DTYPE), *source.chunks]
    return Loaded(name, source.sensor, np.concatenate(chunks))


def _batches(recordings: Iterator[Loaded]) -> Iterator[list[Loaded]]:
    """Group recordings of one sensor, up to the size of one request."""
    batch: list[Loaded] = []
    for recording in recordings:
        size = sum(other.events.size for other in [*batch, recording])
        full = len(batch) == BATCH_FILES or size > BATCH_EVENTS
        if batch and (full or recording.sensor != batch[0].sensor):
            yield batch
            batch = []
        batch.append(recording)
    if batch:
        yield batch

"""The command `saccade classify`: classify whole recordings through REST."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from saccade.clients import http
from saccade.clients.commands.arguments import (
    base_parser,
    print_message,
    read_options,
)
from saccade.clients.commands.opening import (
    Models,
    Remarks,
    cameras_of,
    guessed,
    open_files,
)
from saccade.clients.commands.tolerance import left_out
from saccade.clients.commands.waiting import wait_until_ready
from saccade.clients.display.text import answer_table
from saccade.clients.errors import RequestRefused, UnplayableSource
from saccade.clients.http import Answer
from saccade.clients.sources import SIMULATED, Source, open_source
from saccade.model.events.errors import EventsError, RecordingError
from saccade.model.events.reading import ReadOptions
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

COMMAND: Final = "classify"
BATCH_FILES: Final = 32
BATCH_EVENTS: Final = 2_000_000
"""16 MB as packed records, well below the largest request that a server accepts."""
MOST_EVENTS: Final = 1 << 24
"""134 MB as packed records, more than any server accepts by default."""

DESCRIPTION: Final = """\
Classify whole recordings: each FILE gets one label, from all of its events, by the
model for its sensor. A file that cannot be read, or is refused, is named with the
reason; the others are answered all the same.
"""
EPILOG: Final = """\
examples:
  saccade classify digits/*.bin --model nmnist
  saccade classify stereo.aedat --camera all
"""


NO_EVENTS: Final = np.empty(0, EVENT_DTYPE)


class TooLong(UnplayableSource):
    """A recording has more events than this command holds."""


class Loaded(NamedTuple):
    """A recording, the model to ask, and its place on the command line.

    Where there is a `file`, `events` are none: the server reads it.
    """

    name: str
    sensor: Sensor
    events: Events
    model: str = ""
    place: int = 0
    file: File | None = None


class File(NamedTuple):
    """A recording that is too long to be held, and goes to the server as a file."""

    path: Path
    options: ReadOptions
    clock_bits: int | None


class Outcome(NamedTuple):
    """What became of a recording: an answer, or why there is none."""

    place: int
    name: str
    answer: Answer | None
    model: str = ""
    error: str = ""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = base_parser(COMMAND, DESCRIPTION, EPILOG)
    parser.add_argument("files", metavar="FILE", nargs="+", help="a recording")
    parser.add_argument("--json", action="store_true", help="write the table as JSON")
    return parser


def execute(options: argparse.Namespace) -> int:
    """Run the command, and return its exit status: 1 where a file has no answer."""
    wait_until_ready(options.url, options.wait_s)
    outcomes: list[Outcome] = []
    try:
        for batch in _batches(_recordings(options, outcomes)):
            outcomes.extend(_ask(options, batch))
    finally:
        _report(outcomes, as_json=options.json)
    return int(any(outcome.answer is None for outcome in outcomes))


def _recordings(
    options: argparse.Namespace, outcomes: list[Outcome]
) -> Iterator[Loaded]:
    """Yield the recordings that can be read; the others are outcomes."""
    notify = partial(print_message, COMMAND)
    models = Models(partial(http.models, options.url), options.model, notify)
    for place, name in enumerate(options.files):
        try:
            for recording in _cameras(name, options, models):
                yield recording._replace(place=place)
        except RecordingError as error:
            outcomes.append(Outcome(place, name, None, error=error.reason))
        except (EventsError, UnplayableSource) as error:
            outcomes.append(Outcome(place, name, None, error=str(error)))


def _cameras(
    name: str, options: argparse.Namespace, models: Models
) -> Iterator[Loaded]:
    """Yield a file's recording, or that of each of its cameras."""
    if name.startswith(SIMULATED):
        source = load(name, open_source(name))
        yield source._replace(model=models.name_for(source.sensor, "header"))
        return
    paths, bits = [Path(name)], options.clock_bits
    chosen = read_options(options)
    for each in cameras_of(paths, chosen, bits) if Path(name).exists() else [chosen]:
        recording, model = open_files(paths, each, bits, models)
        several = each.camera != chosen.camera and each.camera
        label = f"{name} [{each.camera}]" if several else name
        remarks = Remarks(recording.findings, guessed(recording))
        for remark in remarks.at_first():
            print_message(COMMAND, f"{label}: {remark}")
        file, events = None, NO_EVENTS
        try:
            events = _all_events(label, recording.events)
        except TooLong:
            if Path(name).is_dir():  # a bag, of several files
                raise
            given = None if recording.origin == "header" else recording.sensor
            file = File(Path(name), replace(each, sensor=given), bits)
        for remark in remarks.at_last():
            print_message(COMMAND, f"{label}: {remark}")
        yield Loaded(label, recording.sensor, events, model, file=file)


def load(name: str, source: Source) -> Loaded:
    """Read a whole source.

    Raises:
        TooLong: It has more than MOST_EVENTS.
    """
    assert source.sensor is not None  # what is played says it
    return Loaded(name, source.sensor, _all_events(name, source.chunks))


def _all_events(name: str, chunks: Iterable[Events]) -> Events:
    held, count = [NO_EVENTS], 0
    for events in chunks:
        held.append(events)
        count += events.size
        if count > MOST_EVENTS:
            reason = f"it has more than {MOST_EVENTS:,} events, too many for a request"
            raise TooLong(name, f"{reason}; saccade stream takes it")
    return np.concatenate(held)


def _batches(recordings: Iterator[Loaded]) -> Iterator[list[Loaded]]:
    """Group recordings of one sensor and model, up to the size of one request."""
    batch: list[Loaded] = []
    for recording in recordings:
        size = sum(other.events.size for other in [*batch, recording])
        full = len(batch) == BATCH_FILES or size > BATCH_EVENTS or recording.file
        if batch and (full or _kind(recording) != _kind(batch[0])):
            yield batch
            batch = []
        batch.append(recording)
    if batch:
        yield batch


def _kind(recording: Loaded) -> tuple[object, ...]:
    """Return what the recordings of one request have in common."""
    return recording.sensor, recording.model, recording.file


def _ask(options: argparse.Namespace, batch: list[Loaded]) -> list[Outcome]:
    """Ask for a batch; where that is refused, for each of its recordings alone."""
    choices = http.ClassifyChoices(
        fit=options.fit,
        invalid=options.invalid,
        sort_within_us=options.sort_within_us,
    )
    recordings: list[Any] = [recording.events for recording in batch]
    if (file := batch[0].file) is None:
        choices["sensor"] = batch[0].sensor
    else:
        recordings = [file.path]
        choices["options"], choices["clock_bits"] = file.options, file.clock_bits
    try:
        answers = http.classify(options.url, batch[0].model, recordings, **choices)
    except (RequestRefused, EventsError) as error:
        if len(batch) == 1:
            return [Outcome(batch[0].place, batch[0].name, None, error=str(error))]
        return [outcome for one in batch for outcome in _ask(options, [one])]
    return [
        Outcome(recording.place, recording.name, answer, recording.model)
        for recording, answer in zip(batch, answers, strict=True)
    ]


def _report(outcomes: list[Outcome], *, as_json: bool) -> None:
    """Write the answers to standard output, and every failure to standard error."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.place)
    answers = [(o.name, o.answer) for o in outcomes if o.answer is not None]
    if as_json:
        sys.stdout.write(json.dumps([_row(o) for o in outcomes], indent=2) + "\n")
    elif answers:
        sys.stdout.write(answer_table(answers))
    for outcome in outcomes:
        if outcome.answer is None:
            print_message(COMMAND, f"{outcome.name}: {outcome.error}")
        elif (remark := left_out(outcome.answer)) is not None:
            print_message(COMMAND, f"{outcome.name}: {remark}")


def _row(outcome: Outcome) -> dict[str, object]:
    if outcome.answer is None:
        return {"file": outcome.name, "error": outcome.error}
    return {
        "file": outcome.name,
        "model": outcome.model,
        **asdict(outcome.answer),
    }

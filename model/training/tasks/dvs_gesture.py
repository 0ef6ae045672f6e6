"""DVS128 Gesture: hand and arm gestures before a 128×128 sensor, in AEDAT 3.1.

A trial is one person's recording of all gestures; a CSV beside it lists when each
begins and ends. A sample is one gesture, read from its trial at each access.

Source:
    Amir et al. 2017, CVPR.
"""

from __future__ import annotations

import bisect
import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from saccade.model.events.errors import EventsError
from saccade.model.events.formats.aedat3 import Packet, packets, read_packet
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events, check_inside
from saccade.model.training.dataset import LazyRecordings, Samples, Task, load_split
from saccade.model.training.errors import MalformedDataSet, MissingDataSet
from saccade.model.training.settings import SystemSettings
from saccade.model.training.typed import build
from saccade.model.upstream.recipes import TASKS

SENSOR: Final = Sensor(128, 128)
LABELS: Final = TASKS["dvs"].labels
SOURCE: Final = "DVS128 Gesture (Amir et al. 2017, CVPR), CC BY 4.0"
COLUMNS: Final = ("class", "startTime_usec", "endTime_usec")
INSTRUCTIONS: Final = """\
Download DVS128 Gesture (Amir et al. 2017; CC BY 4.0): DvsGesture.tar.gz, about 3 GB,
5 GB unpacked, linked from research.ibm.com/interactive/dvsgesture. Unpack it and pass
the folder as data_dir=FOLDER:
  FOLDER/trials_to_train.txt, FOLDER/trials_to_test.txt     the trials of each split
  FOLDER/user01_led.aedat, FOLDER/user01_led_labels.csv, …  122 trials of 11 gestures
A part of it will do: a list may name fewer trials."""


@dataclass(frozen=True)
class GestureSettings:
    """The task's settings.

    Attributes:
        validation_share: Share of the training gestures held out, class by class.
        validate_on_test: Choose the best epoch on the test trials, as the reference
            does by default: the accuracy there is then no longer that of unseen data.
    """

    name: str
    validation_share: float
    validate_on_test: bool


class Gesture(NamedTuple):
    """One gesture: its file, packets, and first and last µs of the file's clock."""

    trial: Path
    packets: tuple[Packet, ...]
    start_us: int
    end_us: int


def dvs_gesture(
    values: Mapping[str, Any], data_dir: Path | None, system: SystemSettings
) -> Task:
    """Return the task; `Task.load` indexes the gestures."""
    settings = build(GestureSettings, values, "task.")
    load = partial(
        load_split,
        partial(_read, data_dir),
        validation_share=settings.validation_share,
        validate_on_test=settings.validate_on_test,
    )
    return Task(settings.name, LABELS, SENSOR, SOURCE, load)


def _read(data_dir: Path | None, part: str) -> Samples:
    found: list[tuple[Gesture, int]] = []
    for trial in _trials(data_dir, part):
        found += _gestures(trial)
    gestures, labels = [g for g, _ in found], [label for _, label in found]
    return Samples(LazyRecordings(gestures, _events), np.array(labels, np.int64))


def _trials(data_dir: Path | None, part: str) -> list[Path]:
    if data_dir is None:
        raise MissingDataSet("dvs-gesture", None, INSTRUCTIONS)
    name = f"trials_to_{part}.txt"
    for folder in (data_dir, data_dir / "DvsGesture"):
        if (folder / name).is_file():
            lines = (folder / name).read_text().split()
            missing = [line for line in lines if not (folder / line).is_file()]
            if missing:
                raise MalformedDataSet(folder / missing[0], f"named in {name}, missing")
            return [folder / line for line in lines]
    raise MissingDataSet("dvs-gesture", data_dir / name, INSTRUCTIONS)


def _gestures(trial: Path) -> Iterator[tuple[Gesture, int]]:
    """Yield a trial's gestures with their labels, none of them without events."""
    try:
        held = tuple(packets(trial))
    except EventsError as error:
        raise MalformedDataSet(trial, str(error)) from error
    begins = [packet.first_us for packet in held]
    table = trial.with_name(f"{trial.stem}_labels.csv")
    for label, start_us, end_us in _windows(table):
        first = max(bisect.bisect_left(begins, start_us) - 1, 0)
        last = bisect.bisect_right(begins, end_us)
        gesture = Gesture(trial, held[first:last], start_us, end_us)
        if not gesture.packets:
            reason = f"{trial.name} has no events from {start_us} to {end_us} µs"
            raise MalformedDataSet(table, reason)
        yield gesture, label


def _windows(table: Path) -> Iterator[tuple[int, int, int]]:
    """Yield (label, start_us, end_us); the file counts classes from 1."""
    if not table.is_file():
        raise MalformedDataSet(table, "missing: it says when each gesture begins")
    with table.open(newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        for row in rows:
            try:
                number, start_us, end_us = (int(row[name]) for name in COLUMNS)
            except (KeyError, TypeError, ValueError):
                reason = f"line {rows.line_num} has not {', '.join(COLUMNS)}"
                raise MalformedDataSet(table, reason) from None
            if not 1 <= number <= len(LABELS) or end_us < start_us:
                reason = f"line {rows.line_num}: class {number}, {start_us}–{end_us} µs"
                raise MalformedDataSet(table, reason)
            yield number - 1, start_us, end_us


def _events(gesture: Gesture) -> Events:
    """Read one gesture, in time order, the first event at 0 µs."""
    try:
        with gesture.trial.open("rb") as file:
            chunks = [
                events
                for packet in gesture.packets
                for events in read_packet(gesture.trial, file, packet)
            ]
        events = np.concatenate(chunks)
        check_inside(events, SENSOR)
    except (EventsError, OSError) as error:
        raise MalformedDataSet(gesture.trial, str(error)) from error
    t_us = events["t"]
    inside = events[(t_us >= gesture.start_us) & (t_us <= gesture.end_us)]
    if not inside.size:
        reason = f"no events from {gesture.start_us} to {gesture.end_us} µs"
        raise MalformedDataSet(gesture.trial, reason)
    ordered = inside[np.argsort(inside["t"], kind="stable")]
    ordered["t"] -= ordered["t"][0]
    return np.asarray(ordered)

"""Your own recordings: a folder for each class, in any format that has a reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from saccade.model.events.errors import EventsError
from saccade.model.events.fit import Fit, fit
from saccade.model.events.recordings import OPENERS, open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events, check
from saccade.model.training.dataset import Samples, Split, Task, gather, hold_out
from saccade.model.training.errors import (
    InvalidSetting,
    MalformedDataSet,
    MissingDataSet,
)
from saccade.model.training.settings import SystemSettings
from saccade.model.training.typed import build

INSTRUCTIONS: Final = f"""\
Lay your recordings out by class and pass the folder as data_dir=FOLDER:
  FOLDER/train/<class>/<recording>
  FOLDER/test/<class>/<recording>     for saccade evaluate … split=test
A recording is a file in any of these formats: {" ".join(sorted(OPENERS))}"""


@dataclass(frozen=True)
class FolderSettings:
    """The task's settings.

    Attributes:
        width: Of the sensor that the model is trained for; `height` likewise.
        recorded: Width and height of the recordings; empty if the files tell it.
        fit: What to do with a recording of another geometry: reject, scale or crop.
        validation_share: Share of train held out for validation, class by class.
    """

    name: str
    width: int
    height: int
    recorded: list[int]
    fit: Fit
    validation_share: float


def folder(
    values: Mapping[str, Any], data_dir: Path | None, system: SystemSettings
) -> Task:
    """Describe the task; the classes are the names of the folders in train."""
    settings = build(FolderSettings, values, "task.")
    if len(settings.recorded) not in (0, 2):
        raise InvalidSetting("task.recorded", "it holds a width and a height, or none")
    train = _split(data_dir, "train")
    labels = tuple(sorted(path.name for path in train.iterdir() if path.is_dir()))
    if len(labels) < 2:
        raise MalformedDataSet(train, "holds fewer than two classes' folders")
    sensor = Sensor(settings.width, settings.height)
    load = partial(_load, data_dir, settings, labels, sensor)
    return Task(settings.name, labels, sensor, f"recordings in {train.parent}", load)


def _load(
    data_dir: Path | None,
    settings: FolderSettings,
    labels: tuple[str, ...],
    sensor: Sensor,
    split: Split,
) -> Samples:
    if split == "test":
        return _read(_split(data_dir, "test"), settings, labels, sensor)
    samples = _read(_split(data_dir, "train"), settings, labels, sensor)
    kept, held = hold_out(samples.labels, settings.validation_share)
    return samples.take(kept if split == "train" else held)


def _split(data_dir: Path | None, name: str) -> Path:
    if data_dir is None:
        raise MissingDataSet("folder", None, INSTRUCTIONS)
    found = data_dir / name
    if not found.is_dir():
        raise MissingDataSet("folder", found, INSTRUCTIONS)
    return found


def _read(
    split: Path, settings: FolderSettings, labels: tuple[str, ...], sensor: Sensor
) -> Samples:
    recordings = []
    for label, name in enumerate(labels):
        files = [f for f in sorted((split / name).glob("*")) if _readable(f)]
        if not files:
            raise MalformedDataSet(split / name, "holds no recording")
        recordings += [(_events(file, sensor, settings), label) for file in files]
    return gather(recordings)


def _readable(file: Path) -> bool:
    return file.suffix.lower() in OPENERS and not file.name.startswith(".")


def _events(file: Path, sensor: Sensor, settings: FolderSettings) -> Events:
    """Read one recording; what is wrong with it is told with the file's name."""
    told = Sensor.from_list(settings.recorded) if settings.recorded else None
    try:
        recording = open_recording(file, told)
        events = np.concatenate(list(recording.events))
        check(events, recording.sensor, None)
        return fit(events, recording.sensor, sensor, settings.fit)
    except EventsError as error:
        raise MalformedDataSet(file, str(error)) from error

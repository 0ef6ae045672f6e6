"""The task `folder`: your own recordings, one folder a class, in any known format."""

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
from saccade.model.training.dataset import Samples, Task, gather, load_split
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
        width: Of the sensor that the model is trained for.
        height: Of the same sensor.
        recorded: Width and height of the recordings; empty to take them from the files.
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
    """Return the task; the classes are the names of the folders in train."""
    settings = build(FolderSettings, values, "task.")
    if len(settings.recorded) not in (0, 2):
        raise InvalidSetting("task.recorded", "it holds a width and a height, or none")
    train = _part(data_dir, "train")
    labels = tuple(sorted(path.name for path in train.iterdir() if path.is_dir()))
    if len(labels) < 2:
        raise MalformedDataSet(train, "holds fewer than two classes' folders")
    sensor = Sensor(settings.width, settings.height)
    read = partial(_read, data_dir, settings, labels, sensor)
    load = partial(load_split, read, validation_share=settings.validation_share)
    return Task(settings.name, labels, sensor, f"recordings in {train.parent}", load)


def _part(data_dir: Path | None, name: str) -> Path:
    folder = None if data_dir is None else data_dir / name
    if folder is None or not folder.is_dir():
        raise MissingDataSet("folder", folder, INSTRUCTIONS)
    return folder


def _read(
    data_dir: Path | None,
    settings: FolderSettings,
    labels: tuple[str, ...],
    sensor: Sensor,
    part: str,
) -> Samples:
    folder, recordings = _part(data_dir, part), []
    for label, name in enumerate(labels):
        files = [f for f in sorted((folder / name).glob("*")) if _readable(f)]
        if not files:
            raise MalformedDataSet(folder / name, "holds no recording")
        recordings += [(_events(file, sensor, settings), label) for file in files]
    return gather(recordings)


def _readable(file: Path) -> bool:
    return file.suffix.lower() in OPENERS and not file.name.startswith(".")


def _events(file: Path, sensor: Sensor, settings: FolderSettings) -> Events:
    """Read one recording; an error names its file."""
    declared = Sensor.from_list(settings.recorded) if settings.recorded else None
    try:
        recording = open_recording(file, declared)
        events = np.concatenate(list(recording.events))
        check(events, recording.sensor, None)
        return fit(events, recording.sensor, sensor, settings.fit)
    except EventsError as error:
        raise MalformedDataSet(file, str(error)) from error

"""The task `folder`: your own recordings, one folder a class, in any known format."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from saccade.model.events.errors import EventsError
from saccade.model.events.fit import Fit, fit
from saccade.model.events.reading import Origin, ReadOptions, WhenTruncated
from saccade.model.events.recordings import OPENERS, Recording, open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.tolerance import Invalid, Tolerance
from saccade.model.events.types import Events
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

HIDDEN: Final = (".", "__")

logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderSettings:
    """The task's settings.

    Attributes:
        width: Of the sensor that the model is trained for; None for the recordings'.
        height: Of the same sensor.
        recorded: Width and height of the recordings whose files do not say it; empty
            where the events' own bounds will do.
        chip: jAER's name of the camera's chip, for AEDAT 2 files that do not hold it.
        camera: Which camera to read of files that hold several; None for the first.
        fit: What to do with a recording of another geometry: reject, scale or crop.
        truncated: What to do with a file that ends early: refuse, or read up to there.
        invalid: What an event outside the sensor or out of order costs: its recording
            (reject, an error), or itself alone (skip).
        sort_within_us: Events that are late by no more are put in order, µs.
        validation_share: Share of train held out for validation, class by class.
    """

    name: str
    width: int | None
    height: int | None
    recorded: list[int]
    chip: str | None
    camera: str | None
    fit: Fit
    truncated: WhenTruncated
    invalid: Invalid
    sort_within_us: int
    validation_share: float


def folder(
    values: Mapping[str, Any], data_dir: Path | None, system: SystemSettings
) -> Task:
    """Return the task; the classes are the names of the folders in train.

    Folders and files whose names begin with a dot or two underscores, as a notebook or
    an archive leaves them, are none.
    """
    settings = build(FolderSettings, values, "task.")
    if len(settings.recorded) not in (0, 2):
        raise InvalidSetting("task.recorded", "it holds a width and a height, or none")
    train = _part(data_dir, "train")
    labels = tuple(sorted(path.name for path in _visible(train) if path.is_dir()))
    if len(labels) < 2:
        raise MalformedDataSet(train, "holds fewer than two classes' folders")
    sensor = _sensor(settings, train, labels)
    read = partial(_read, data_dir, settings, labels, sensor)
    load = partial(load_split, read, validation_share=settings.validation_share)
    return Task(settings.name, labels, sensor, f"recordings in {train.parent}", load)


def _part(data_dir: Path | None, name: str) -> Path:
    folder = None if data_dir is None else data_dir / name
    if folder is None or not folder.is_dir():
        raise MissingDataSet("folder", folder, INSTRUCTIONS)
    return folder


def _visible(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return iter(())
    return (p for p in sorted(folder.iterdir()) if not p.name.startswith(HIDDEN))


def _files(folder: Path) -> list[Path]:
    """Return a class's recordings; a .txt beside others is taken for a note.

    Raises:
        MalformedDataSet: There is none.
    """
    files = [f for f in _visible(folder) if f.suffix.lower() in OPENERS]
    if not files:
        raise MalformedDataSet(folder, "holds no recording")
    return [f for f in files if f.suffix.lower() != ".txt"] or files


def _sensor(settings: FolderSettings, train: Path, labels: tuple[str, ...]) -> Sensor:
    """Return the sensor that the model is trained for: as set, or the recordings'.

    Raises:
        InvalidSetting: Only a width or only a height is set, or files differ.
    """
    match settings.width, settings.height:
        case int(width), int(height):
            return Sensor(width, height)
        case None, None:
            files = (file for name in labels for file in _files(train / name))
            return _common_sensor([_geometry(file, settings) for file in files])
    raise InvalidSetting("task.width", "width and height are set together, or neither")


class Geometry(NamedTuple):
    """A recording's sensor, and where it is known from."""

    file: Path
    sensor: Sensor
    origin: Origin


def _geometry(file: Path, settings: FolderSettings) -> Geometry:
    recording = _opened(file, settings)
    return Geometry(file, recording.sensor, recording.origin)


def _common_sensor(recordings: Sequence[Geometry]) -> Sensor:
    """Return the one sensor that recordings' files name, or else their bounds."""
    named = {r.sensor: r.file.name for r in recordings if r.origin != "guess"}
    if len(named) > 1:
        examples = ", ".join(f"{sensor} of {name}" for sensor, name in named.items())
        reason = f"the recordings differ: {examples}; set it, and task.fit to scale"
        raise InvalidSetting("task.width, task.height", reason)
    if named:
        return next(iter(named))
    sensors = [recording.sensor for recording in recordings]
    bounds = Sensor(max(s.width for s in sensors), max(s.height for s in sensors))
    logger.warning(
        "no recording says its sensor: %s is guessed from the events; "
        "task.width and task.height set it",
        bounds,
    )
    return bounds


def _read(
    data_dir: Path | None,
    settings: FolderSettings,
    labels: tuple[str, ...],
    sensor: Sensor,
    part: str,
) -> Samples:
    folder, recordings = _part(data_dir, part), []
    for label, name in enumerate(labels):
        files = _files(folder / name)
        recordings += [(_events(file, sensor, settings), label) for file in files]
    return gather(recordings)


def _opened(
    file: Path, settings: FolderSettings, sensor: Sensor | None = None
) -> Recording:
    """Open one recording; an error names its file."""
    options = ReadOptions(
        sensor=Sensor.from_list(settings.recorded) if settings.recorded else None,
        model_sensor=sensor,
        chip=settings.chip,
        camera=settings.camera,
        truncated=settings.truncated,
    )
    try:
        return open_recording(file, options=options)
    except EventsError as error:
        raise MalformedDataSet(file, str(error)) from error


def _events(file: Path, sensor: Sensor, settings: FolderSettings) -> Events:
    """Read one recording; an error names its file."""
    recording = _opened(file, settings, sensor)
    tolerance = Tolerance(recording.sensor, settings.invalid, settings.sort_within_us)
    try:
        events = np.concatenate(list(recording.events))
        valid = tolerance.whole(events)
        fitted = fit(valid, recording.sensor, sensor, settings.fit)
    except EventsError as error:
        raise MalformedDataSet(file, str(error)) from error
    if recording.origin == "guess":
        text = "%s: its sensor is guessed to be %s; task.recorded says it"
        logger.warning(text, file, recording.sensor)
    for warning in recording.findings.warnings:
        logger.warning("%s: %s", file, warning)
    if (skipped := tolerance.skipped).events:
        text = "%s: %d invalid events are left out; the first: %s"
        logger.warning(text, file, skipped.events, skipped.first)
    return fitted

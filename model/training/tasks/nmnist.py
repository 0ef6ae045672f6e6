"""N-MNIST: handwritten digits recorded by a 34×34 sensor in three saccades."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events
from saccade.model.training.dataset import Samples, Task, gather, load_split
from saccade.model.training.errors import MalformedDataSet, MissingDataSet
from saccade.model.training.settings import SystemSettings
from saccade.model.training.typed import build

SENSOR: Final = Sensor(34, 34)
LABELS: Final = tuple(str(digit) for digit in range(10))
SOURCE: Final = (
    "N-MNIST (Orchard et al. 2015, doi 10.3389/fnins.2015.00437), "
    "believed to be CC BY-SA 4.0"
)
INSTRUCTIONS: Final = """\
Download N-MNIST (Orchard et al. 2015, doi 10.3389/fnins.2015.00437): Train.zip
(1.0 GB) and Test.zip (170 MB), linked from garrickorchard.com/datasets/n-mnist.
Unpack both into one folder and pass it as data_dir=FOLDER:
  FOLDER/Train/<digit>/<id>.bin   60,000 recordings
  FOLDER/Test/<digit>/<id>.bin    10,000 recordings
A part of it will do, laid out the same way."""


@dataclass(frozen=True)
class NMnistSettings:
    """The task's settings.

    Attributes:
        validation_share: Share of Train held out for validation, class by class.
    """

    name: str
    validation_share: float


def nmnist(
    values: Mapping[str, Any], data_dir: Path | None, system: SystemSettings
) -> Task:
    """Return the task; `Task.load` reads the recordings."""
    settings = build(NMnistSettings, values, "task.")
    read = partial(_read, data_dir)
    load = partial(load_split, read, validation_share=settings.validation_share)
    return Task(settings.name, LABELS, SENSOR, SOURCE, load)


def _read(data_dir: Path | None, part: str) -> Samples:
    """Read `train` or `test`, which must hold recordings of every digit."""
    folder = None if data_dir is None else data_dir / part.capitalize()
    if folder is None or not folder.is_dir():
        raise MissingDataSet("nmnist", folder, INSTRUCTIONS)
    recordings = []
    for label, digit in enumerate(LABELS):
        files = sorted((folder / digit).glob("*.bin"))
        if not files:
            raise MalformedDataSet(folder / digit, "holds no .bin recording")
        recordings += [(_events(file), label) for file in files]
    return gather(recordings)


def _events(file: Path) -> Events:
    return np.concatenate(list(open_recording(file, SENSOR).events))

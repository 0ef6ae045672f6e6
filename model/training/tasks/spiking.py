"""The Heidelberg spiking data sets: spoken words as spikes of an artificial cochlea.

Source:
    Cramer et al. 2022, doi 10.1109/TNNLS.2020.3044364.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from saccade.model.training.dataset import Samples, Split, Task, load_split
from saccade.model.training.errors import MissingDataSet
from saccade.model.training.settings import SystemSettings
from saccade.model.training.tasks.spike_file import COCHLEA, read_file, read_words
from saccade.model.training.typed import build

SOURCE: Final = "{} (Cramer et al. 2022, doi 10.1109/TNNLS.2020.3044364), CC BY 4.0"
INSTRUCTIONS: Final = """\
`saccade download {task} --out FOLDER` fetches {name} (CC BY 4.0) and
checks it. By hand: zenkelab.org/datasets or compneuro.net/datasets; the checksums lie
beside the files. Unpack them into one folder and pass it as data_dir=FOLDER:
{files}"""
DIGITS_FILES: Final = """\
  FOLDER/shd_train.h5    8,156 recordings, from shd_train.h5.gz, about 130 MB
  FOLDER/shd_test.h5     2,264 recordings, from shd_test.h5.gz, about 40 MB"""
COMMANDS_FILES: Final = """\
  FOLDER/ssc_train.h5    75,466 recordings, from ssc_train.h5.gz, about 1.2 GB
  FOLDER/ssc_valid.h5    9,981 recordings, from ssc_valid.h5.gz, about 160 MB
  FOLDER/ssc_test.h5     20,382 recordings, from ssc_test.h5.gz, about 330 MB"""


@dataclass(frozen=True)
class DigitsSettings:
    """The settings of spiking-heidelberg-digits.

    Attributes:
        validation_share: Share of the training file held out, class by class.
        validate_on_test: Choose the best epoch on the test file, as the reference
            does by default: the accuracy there is then no longer that of unseen data.
    """

    name: str
    validation_share: float
    validate_on_test: bool


@dataclass(frozen=True)
class CommandsSettings:
    """The settings of spiking-speech-commands, which has a file for validation."""

    name: str


class Source(NamedTuple):
    """One of the two data sets on disk."""

    task: str
    data_dir: Path | None
    prefix: str
    instructions: str

    def file(self, part: str) -> Path:
        """Return the file of one part, `train`, `valid` or `test`.

        Raises:
            MissingDataSet: The file does not exist.
        """
        name = f"{self.prefix}_{part}.h5"
        path = None if self.data_dir is None else self.data_dir / name
        if path is None or not path.is_file():
            raise MissingDataSet(self.task, path, self.instructions)
        return path

    def read(self, part: str) -> Samples:
        """Open the file of one part."""
        return read_file(self.file(part))

    def words(self) -> tuple[str, ...]:
        """Return the classes, from the first of the files that exists."""
        for part in ("train", "test", "valid"):
            with suppress(MissingDataSet):
                return read_words(self.file(part))
        return read_words(self.file("train"))


def digits(
    values: Mapping[str, Any], data_dir: Path | None, system: SystemSettings
) -> Task:
    """Return spiking-heidelberg-digits: ten digits in English and in German."""
    settings = build(DigitsSettings, values, "task.")
    name = "Spiking Heidelberg Digits"
    instructions = INSTRUCTIONS.format(
        task=settings.name, name=name, files=DIGITS_FILES
    )
    source = Source(settings.name, data_dir, "shd", instructions)
    load = partial(
        load_split,
        source.read,
        validation_share=settings.validation_share,
        validate_on_test=settings.validate_on_test,
    )
    return Task(settings.name, source.words(), COCHLEA, SOURCE.format(name), load)


def commands(
    values: Mapping[str, Any], data_dir: Path | None, system: SystemSettings
) -> Task:
    """Return spiking-speech-commands: 35 English words of many speakers."""
    settings = build(CommandsSettings, values, "task.")
    name = "Spiking Speech Commands"
    instructions = INSTRUCTIONS.format(
        task=settings.name, name=name, files=COMMANDS_FILES
    )
    source = Source(settings.name, data_dir, "ssc", instructions)
    load = partial(_load_commands, source)
    return Task(settings.name, source.words(), COCHLEA, SOURCE.format(name), load)


def _load_commands(source: Source, split: Split) -> Samples:
    return source.read("valid" if split == "validation" else split)

"""Errors of training, evaluating, downloading and exporting.

TrainingError
├── UnknownSetting      a key or an option that no configuration has
├── InvalidSetting      a value of the wrong type or out of range
├── MissingDataSet      the data set's folder or file does not exist
├── MalformedDataSet    a file of the data set is damaged or contradicts another
├── EmptySplit          a split has no samples
├── TrainingDiverged    the loss is no longer finite
├── CannotSave          a checkpoint or a state cannot be written
├── CannotLog           Weights & Biases does not accept a run's metrics
├── MissingPackage      a setting needs a package that is not installed
└── CannotDownload      an archive is not reachable or has another checksum
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class TrainingError(Exception):
    """The root of this tree; its text is a message for the user."""


@dataclass(eq=False)
class UnknownSetting(TrainingError):
    """A key or an option that no configuration has."""

    kind: str
    name: str
    known: Iterable[str]

    def __str__(self) -> str:
        start = f"there is no {self.kind} {self.name!r}"
        known = sorted(self.known)
        if near := _nearest(self.name, known):
            return f"{start}; did you mean {' or '.join(map(repr, near))}?"
        return f"{start}; known: {', '.join(known)}"


@dataclass(eq=False)
class InvalidSetting(TrainingError):
    """A setting's value is of the wrong type, out of range or missing."""

    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


@dataclass(eq=False)
class MissingDataSet(TrainingError):
    """The data set's folder or file does not exist."""

    task: str
    looked_for: Path | None
    instructions: str

    def __str__(self) -> str:
        where = (
            f"{self.looked_for} does not exist"
            if self.looked_for is not None
            else "data_dir is not given"
        )
        return f"task {self.task} finds no data: {where}.\n{self.instructions}"


@dataclass(eq=False)
class MalformedDataSet(TrainingError):
    """A file of the data set is damaged or contradicts another."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(eq=False)
class EmptySplit(TrainingError):
    """A split has no samples."""

    task: str
    split: str

    def __str__(self) -> str:
        return f"task {self.task} has no samples in its split {self.split}"


@dataclass(eq=False)
class TrainingDiverged(TrainingError):
    """The loss is no longer finite; the batch is saved for study."""

    step: int
    loss: float
    batch: Path

    def __str__(self) -> str:
        return (
            f"the loss became {self.loss} at step {self.step}, whose batch is in "
            f"{self.batch}; try a smaller optimizer.lr or optimizer.ssm_lr"
        )


@dataclass(eq=False)
class CannotSave(TrainingError):
    """A checkpoint or a state cannot be written; the one before it is whole."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.path} cannot be saved: {self.reason}. What was saved before is "
            "whole: make room, and go on with saccade train resume=RUN"
        )


@dataclass(eq=False)
class CannotLog(TrainingError):
    """Weights & Biases does not accept a run's metrics; the run's folder has them."""

    reason: str

    def __str__(self) -> str:
        return (
            f"Weights & Biases: {self.reason.strip()}\n"
            "Without account or network: logging.mode=offline, and later wandb sync"
        )


@dataclass(eq=False)
class MissingPackage(TrainingError):
    """A setting needs a package that is not installed."""

    setting: str
    package: str
    extra: str

    def __str__(self) -> str:
        return (
            f"{self.setting} needs the package {self.package}: "
            f"pip install 'saccade[{self.extra}]'"
        )


@dataclass(eq=False)
class CannotDownload(TrainingError):
    """An archive is not reachable, or has another checksum than its publisher's."""

    url: str
    reason: str

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


def _nearest(name: str, known: list[str]) -> list[str]:
    """Return up to three known names close to `name`, whole or by their last part."""
    whole = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    if whole:
        return whole
    leaves = {full.rpartition(".")[2]: full for full in known}
    near = difflib.get_close_matches(name.rpartition(".")[2], leaves, n=3, cutoff=0.6)
    return [leaves[leaf] for leaf in near]

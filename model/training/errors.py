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
from pathlib import Path


class TrainingError(Exception):
    """The root of this tree; its text is a message for the user."""


class UnknownSetting(TrainingError):
    """A key or an option that no configuration has."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        self.nearest = _nearest(name, self.known)
        super().__init__(kind, name)

    def __str__(self) -> str:
        start = f"there is no {self.kind} {self.name!r}"
        if self.nearest:
            return f"{start}; did you mean {' or '.join(map(repr, self.nearest))}?"
        return f"{start}; known: {', '.join(self.known)}"


class InvalidSetting(TrainingError):
    """A setting's value is of the wrong type, out of range or missing."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(key, reason)

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


class MissingDataSet(TrainingError):
    """The data set's folder or file does not exist."""

    def __init__(self, task: str, looked_for: Path | None, instructions: str) -> None:
        self.task = task
        self.looked_for = looked_for
        self.instructions = instructions
        super().__init__(task, looked_for)

    def __str__(self) -> str:
        where = (
            f"{self.looked_for} does not exist"
            if self.looked_for is not None
            else "data_dir is not given"
        )
        return f"task {self.task} finds no data: {where}.\n{self.instructions}"


class MalformedDataSet(TrainingError):
    """A file of the data set is damaged or contradicts another."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class EmptySplit(TrainingError):
    """A split has no samples."""

    def __init__(self, task: str, split: str) -> None:
        self.task = task
        self.split = split
        super().__init__(task, split)

    def __str__(self) -> str:
        return f"task {self.task} has no samples in its split {self.split}"


class TrainingDiverged(TrainingError):
    """The loss is no longer finite; the batch is saved for study."""

    def __init__(self, step: int, loss: float, batch: Path) -> None:
        self.step = step
        self.loss = loss
        self.batch = batch
        super().__init__(step, loss, batch)

    def __str__(self) -> str:
        return (
            f"the loss became {self.loss} at step {self.step}, whose batch is in "
            f"{self.batch}; try a smaller optimizer.lr or optimizer.ssm_lr"
        )


class CannotSave(TrainingError):
    """A checkpoint or a state cannot be written; the one before it is whole."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return (
            f"{self.path} cannot be saved: {self.reason}. What was saved before is "
            "whole: make room, and go on with saccade train resume=RUN"
        )


class CannotLog(TrainingError):
    """Weights & Biases does not accept a run's metrics; the run's folder has them."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return (
            f"Weights & Biases: {self.reason.strip()}\n"
            "Without account or network: logging.mode=offline, and later wandb sync"
        )


class MissingPackage(TrainingError):
    """A setting needs a package that is not installed."""

    def __init__(self, setting: str, package: str, extra: str) -> None:
        self.setting = setting
        self.package = package
        self.extra = extra
        super().__init__(setting, package, extra)

    def __str__(self) -> str:
        return (
            f"{self.setting} needs the package {self.package}: "
            f"pip install 'saccade[{self.extra}]'"
        )


class CannotDownload(TrainingError):
    """An archive is not reachable, or has another checksum than its publisher's."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(url, reason)

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


def _nearest(name: str, known: tuple[str, ...]) -> list[str]:
    """Return up to three known names close to `name`, whole or by their last part."""
    whole = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    if whole:
        return whole
    leaves = {full.rpartition(".")[2]: full for full in known}
    near = difflib.get_close_matches(name.rpartition(".")[2], leaves, n=3, cutoff=0.6)
    return [leaves[leaf] for leaf in near]

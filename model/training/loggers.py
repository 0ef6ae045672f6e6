"""Where a run's metrics go as they come: into its folder, and where else is chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

from saccade.model.training.devices import is_first
from saccade.model.training.errors import MissingPackage
from saccade.model.training.metrics import Score
from saccade.model.training.progress import Report
from saccade.model.training.run_folder import RunFolder
from saccade.model.training.settings import LoggingSettings, WandbSettings


class Validation(NamedTuple):
    """What one validation found.

    Attributes:
        step: Steps taken before it.
        epoch: Whole epochs, likewise.
        score: Of the weights as they were then.
        best: Whether it is the best so far.
    """

    step: int
    epoch: int
    score: Score
    best: bool


@runtime_checkable
class Log(Protocol):
    """What takes in a run's metrics."""

    def train(self, report: Report, wall_s: float) -> None:
        """Take in how training has gone since the last report, so long into the run."""

    def validate(self, validation: Validation) -> None:
        """Take in a validation."""


@dataclass(frozen=True)
class FolderLog:
    """A log in files of the run's folder."""

    folder: RunFolder

    def train(self, report: Report, wall_s: float) -> None:
        """See `Log`; what depends on the machine goes into a file of its own."""
        values = report._asdict()
        speed = values.pop("events_per_s")
        self.folder.record(kind="train", **values)
        self.folder.record_speed(
            step=report.step, events_per_s=speed, wall_s=round(wall_s, 3)
        )

    def validate(self, validation: Validation) -> None:
        """See `Log`."""
        score = validation.score
        self.folder.record(
            kind="validation",
            epoch=validation.epoch,
            accuracy=score.accuracy,
            loss=score.loss,
            samples=score.samples,
        )


@dataclass(frozen=True)
class Logs:
    """Several logs as one."""

    logs: tuple[Log, ...]

    def train(self, report: Report, wall_s: float) -> None:
        """See `Log`."""
        for log in self.logs:
            log.train(report, wall_s)

    def validate(self, validation: Validation) -> None:
        """See `Log`."""
        for log in self.logs:
            log.validate(validation)


# >>> merged from model.training.log_choice
# >>> """From the settings of `logging` to what opens a run's log."""

Open: TypeAlias = Callable[
    [RunFolder, Mapping[str, Any], Mapping[str, Any]], AbstractContextManager[Log]
]
"""The run's folder, its resolved configuration and its origin to its log."""


def choose_log(settings: LoggingSettings | WandbSettings) -> Open:
    """Return what opens the log that the settings name.

    Raises:
        MissingPackage: It needs one that is not installed.
    """
    return _CHOICES[type(settings)](settings)


def _local(_: LoggingSettings | WandbSettings) -> Open:
    @contextmanager
    def open_log(
        folder: RunFolder, values: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> Iterator[Log]:
        yield FolderLog(folder)

    return open_log


def _wandb(settings: WandbSettings) -> Open:
    """Of several processes the first alone is seen there."""
    # It would tell its makers of every error of this process, from its import on.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        from saccade.model.training.wandb_log import wandb_log
    except ModuleNotFoundError as error:
        if error.name != "wandb":
            raise
        raise MissingPackage("logging=wandb", "wandb", "wandb") from error
    if not is_first():
        return _local(settings)

    @contextmanager
    def open_log(
        folder: RunFolder, values: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> Iterator[Log]:
        with wandb_log(settings, folder, values, origin) as there:
            yield Logs((FolderLog(folder), there))

    return open_log


_CHOICES: Final[Mapping[type, Callable[[Any], Open]]] = {
    LoggingSettings: _local,
    WandbSettings: _wandb,
}

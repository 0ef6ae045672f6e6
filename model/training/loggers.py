"""Where a run's metrics are logged: its folder, and Weights & Biases where chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from saccade.model.training.devices import is_first
from saccade.model.training.errors import MissingPackage
from saccade.model.training.metrics import TrainReport, Validation
from saccade.model.training.run_folder import RunFolder
from saccade.model.training.settings import LoggingSettings, WandbSettings


@runtime_checkable
class MetricsLogger(Protocol):
    """A destination of a run's metrics."""

    def train(self, report: TrainReport, wall_s: float) -> None:
        """Log training metrics, `wall_s` seconds into the run."""

    def validate(self, validation: Validation) -> None:
        """Log a validation."""


@dataclass(frozen=True)
class FolderLogger:
    """Logs to files of the run's folder."""

    folder: RunFolder

    def train(self, report: TrainReport, wall_s: float) -> None:
        """See `MetricsLogger`; what depends on the machine has a file of its own."""
        values = report._asdict()
        speed = values.pop("events_per_s")
        self.folder.record(kind="train", **values)
        self.folder.record_speed(
            step=report.step, events_per_s=speed, wall_s=round(wall_s, 3)
        )

    def validate(self, validation: Validation) -> None:
        """See `MetricsLogger`."""
        score = validation.score
        self.folder.record(
            kind="validation",
            epoch=validation.epoch,
            accuracy=score.accuracy,
            loss=score.loss,
            samples=score.samples,
        )


@dataclass(frozen=True)
class LoggerGroup:
    """Several loggers as one."""

    loggers: tuple[MetricsLogger, ...]

    def train(self, report: TrainReport, wall_s: float) -> None:
        """See `MetricsLogger`."""
        for logger in self.loggers:
            logger.train(report, wall_s)

    def validate(self, validation: Validation) -> None:
        """See `MetricsLogger`."""
        for logger in self.loggers:
            logger.validate(validation)


OpenLogger: TypeAlias = Callable[
    [RunFolder, Mapping[str, Any], Mapping[str, Any]],
    AbstractContextManager[MetricsLogger],
]
"""(run folder, resolved configuration, origin) -> the run's logger."""


def choose_logger(settings: LoggingSettings | WandbSettings) -> OpenLogger:
    """Return the function that opens the logger of these settings.

    Of several processes the first alone logs to Weights & Biases.

    Raises:
        MissingPackage: The logger needs a package that is not installed.
    """
    if isinstance(settings, LoggingSettings):
        return _open_folder_logger
    open_wandb = _wandb_opener(settings)
    return open_wandb if is_first() else _open_folder_logger


def _open_folder_logger(
    folder: RunFolder, values: Mapping[str, Any], origin: Mapping[str, Any]
) -> AbstractContextManager[MetricsLogger]:
    return nullcontext(FolderLogger(folder))


def _wandb_opener(settings: WandbSettings) -> OpenLogger:
    # From its import on, the package would report this process's errors to its makers.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        from saccade.model.training.wandb_log import wandb_log
    except ModuleNotFoundError as error:
        if error.name != "wandb":
            raise
        raise MissingPackage("logging=wandb", "wandb", "wandb") from error

    @contextmanager
    def open_logger(
        folder: RunFolder, values: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> Iterator[MetricsLogger]:
        with wandb_log(settings, folder, values, origin) as wandb_logger:
            yield LoggerGroup((FolderLogger(folder), wandb_logger))

    return open_logger

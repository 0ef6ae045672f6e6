"""Where a run's metrics go as they come: into its folder, and where else is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from saccade.model.training.display import Report
from saccade.model.training.evaluate import Score
from saccade.model.training.run_folder import RunFolder


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

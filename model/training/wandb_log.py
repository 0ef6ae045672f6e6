"""A run's metrics on Weights & Biases, beside what its folder holds anyway.

Imported only where `logging=wandb` is chosen: the package is an optional extra.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import wandb

from saccade.model.training.errors import CannotLog
from saccade.model.training.loggers import Validation
from saccade.model.training.progress import Report
from saccade.model.training.run_folder import RunFolder
from saccade.model.training.settings import WandbMode, WandbSettings

# Without a server there is nothing to ask whether a run is there already: files that
# carry the same id are put together when they are sent.
RESUME: Final[Mapping[WandbMode, Any]] = {
    "online": "allow",
    "offline": None,
    "disabled": None,
}


@dataclass(frozen=True)
class WandbLog:
    """A log of one run there. Its axis is ours: a run that goes on may repeat steps."""

    run: wandb.Run

    def train(self, report: Report, wall_s: float) -> None:
        """See `log.Log`."""
        self._send(
            {
                "step": report.step,
                "epoch": report.epoch,
                "train/loss": report.loss,
                "train/accuracy": report.accuracy,
                "train/events_per_s": report.events_per_s,
                "train/wall_s": wall_s,
            }
        )

    def validate(self, validation: Validation) -> None:
        """See `log.Log`; the best one is in the run's summary."""
        score, epoch = validation.score, validation.epoch
        found = {"accuracy": score.accuracy, "loss": score.loss}
        named = {f"validation/{name}": value for name, value in found.items()}
        self._send({"step": validation.step, "epoch": epoch, **named})
        if validation.best:
            best = {**found, "epoch": epoch, "samples": score.samples}
            self.run.summary.update({f"best/{k}": v for k, v in best.items()})

    def _send(self, values: Mapping[str, float]) -> None:
        try:
            self.run.log(dict(values))
        except wandb.Error as error:
            raise CannotLog(str(error)) from error


@contextmanager
def wandb_log(
    settings: WandbSettings,
    folder: RunFolder,
    values: Mapping[str, Any],
    origin: Mapping[str, Any],
) -> Iterator[WandbLog]:
    """Lend a log of this run, and finish it whatever happens.

    Args:
        settings: Where to, and as what.
        folder: The run's; it holds the files on their way, and the run's id there.
        values: The resolved configuration.
        origin: Command, git hash, versions of packages.

    Raises:
        CannotLog: There is no account or no server, or the name is taken.
    """
    known = {k: v for k, v in values.items() if k != "resume"}
    try:
        run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            group=settings.group,
            tags=settings.tags,
            mode=settings.mode,
            name=f"{folder.path.parent.name}/{folder.path.name}",
            dir=folder.path,
            id=_id(folder),
            resume=RESUME[settings.mode],
            config={**known, "origin": dict(origin)},
            allow_val_change=True,
            settings=wandb.Settings(console="off", quiet=True, disable_git=True),
        )
        for part in ("train/*", "validation/*"):
            run.define_metric(part, step_metric="step")
    except wandb.Error as error:
        raise CannotLog(str(error)) from error
    status = 1
    try:
        yield WandbLog(run)
        status = 0
    finally:
        run.finish(exit_code=status)


def _id(folder: RunFolder) -> str:
    """Return the run's id there: the same whenever the run goes on."""
    if not folder.wandb_id.is_file():
        folder.wandb_id.write_text(secrets.token_hex(4) + "\n")
    return folder.wandb_id.read_text().strip()

"""The logger of a run's metrics to Weights & Biases, beside the run's folder.

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
from saccade.model.training.metrics import TrainReport, Validation
from saccade.model.training.run_folder import RunFolder
from saccade.model.training.settings import WandbMode, WandbSettings

# Offline no server knows whether the run exists: `wandb sync` joins files of one id.
RESUME: Final[Mapping[WandbMode, Any]] = {
    "online": "allow",
    "offline": None,
    "disabled": None,
}


@dataclass(frozen=True)
class WandbLogger:
    """Logs to one run at Weights & Biases, by our step: a resumed run repeats steps."""

    run: wandb.Run

    def train(self, report: TrainReport, wall_s: float) -> None:
        """See `MetricsLogger`."""
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
        """See `MetricsLogger`; the best validation goes into the summary."""
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
) -> Iterator[WandbLogger]:
    """Yield a logger of this run, and finish the run there in any case.

    Args:
        settings: Project, entity, group, tags and mode.
        folder: The run's; it holds the files to send, and the run's id there.
        values: The resolved configuration.
        origin: Command, git hash, versions of packages.

    Raises:
        CannotLog: There is no account or no server, or the id is taken.
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
        yield WandbLogger(run)
        status = 0
    finally:
        run.finish(exit_code=status)


def _id(folder: RunFolder) -> str:
    """Return the run's id there, the same after every resumption."""
    if not folder.wandb_id.is_file():
        folder.wandb_id.write_text(secrets.token_hex(4) + "\n")
    return folder.wandb_id.read_text().strip()

"""The training loop: batches in, the best checkpoint out.

The device never waits for the host within an epoch: batches are prepared in a
thread ahead of it, and its metrics are fetched once in `logging.every_steps` steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax

from model.classifier import Variables
from model.training import augmentation, learner as learners, objective
from model.training.batches import (
    Batch,
    evaluation_batches,
    prefetch,
    training_batches,
)
from model.training.dataset import Samples
from model.training.display import Display, Report
from model.training.errors import TrainingDiverged
from model.training.evaluate import Score, evaluate, score
from model.training.experiment import Experiment
from model.training.interruption import Interruption
from model.training.learner import Tally
from model.training.run_folder import RunFolder


class Progress(NamedTuple):
    """How far a run is: what a checkpoint says of its training.

    Attributes:
        samples: Distinct samples trained on.
        epochs: Completed.
        wall_s: Since the run began.
        validation: The score of these weights, if they were validated.
    """

    samples: int
    epochs: int
    wall_s: float
    validation: Score | None


class Data(NamedTuple):
    """What a run learns from, and what it is validated on."""

    train: Samples
    validation: Samples


class Outcome(NamedTuple):
    """How a run ended: the checkpoint to use and what is known of it."""

    checkpoint: Path
    progress: Progress
    interrupted: bool


Save = Callable[[Path, Variables, Progress], None]


@dataclass
class Meter:
    """Sums tallies and times between two looks at the device."""

    tallies: list[Tally] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)

    def read(self, step: int, epoch: int) -> Report:
        """Wait for the device, and return what happened since the last reading.

        Raises:
            TrainingDiverged: The loss is no longer a number.
        """
        events = sum(int(t.events) for t in jax.device_get(self.tallies))
        result = score(self.tallies)
        now = time.perf_counter()
        speed = events / (now - self.since)
        self.tallies, self.since = [], now
        if not math.isfinite(result.loss):
            raise TrainingDiverged(step, result.loss)
        return Report(step, epoch, result.loss, result.accuracy, speed)


class Run:
    """One run of an experiment."""

    def __init__(
        self,
        experiment: Experiment,
        data: Data,
        folder: RunFolder,
        display: Display,
        interruption: Interruption,
    ) -> None:
        self._experiment = experiment
        self._folder = folder
        self._display = display
        self._interruption = interruption
        self._begun = time.perf_counter()
        settings, config = experiment.settings, experiment.config
        self._train = data.train
        self._validation = self._whole(data.validation)
        self._steps = experiment.plan.steps(len(self._train.events))
        optimizer = objective.optimizer(
            settings.optimizer, self._steps * settings.training.epochs
        )
        self._learner = learners.init(experiment.variables(), optimizer)
        self._step = learners.make_step(
            config,
            optimizer,
            settings.training.label_smoothing,
            settings.training.ema_decay,
            settings.seed,
        )
        self._measure = learners.make_measure(config)
        self._augment = augmentation.compose(
            settings.augmentation, experiment.task.sensor
        )

    def train(self, save: Save) -> Outcome:
        """Run every epoch, or as many as there are before an interruption.

        Args:
            save: Called with a folder, weights, and how far training is, whenever
                a validation is the best so far, or else at the end.
        """
        epochs = self._experiment.settings.training.epochs
        self._display.begin(self._steps * epochs)
        best: Progress | None = None
        for epoch in range(1, epochs + 1):
            self._epoch(epoch)
            if self._interruption.requested:
                return self._leave(save, epoch - 1, interrupted=True)
            if self._validation and self._due(epoch):
                best = self._validate(save, epoch, best)
        if best is None:
            return self._leave(save, epochs, interrupted=False)
        return Outcome(self._folder.best, best, interrupted=False)

    def _whole(self, samples: Samples) -> list[Batch]:
        experiment = self._experiment
        return list(
            evaluation_batches(
                samples,
                len(experiment.task.labels),
                experiment.settings.training.batch_events,
                experiment.config.tick_events,
                experiment.encode,
            )
        )

    def _due(self, epoch: int) -> bool:
        training = self._experiment.settings.training
        return epoch % training.validate_every == 0 or epoch == training.epochs

    def _epoch(self, epoch: int) -> None:
        experiment = self._experiment
        batches = training_batches(
            self._train,
            len(experiment.task.labels),
            experiment.plan,
            self._augment,
            experiment.encode,
            (experiment.settings.seed, epoch),
        )
        meter, done = Meter(), (epoch - 1) * self._steps
        ahead = prefetch(batches, experiment.settings.system.prefetch_batches)
        for step, batch in enumerate(ahead, start=done + 1):
            self._learner, tally = self._step(self._learner, batch)
            meter.tallies.append(tally)
            if step % experiment.settings.logging.every_steps == 0:
                self._report(meter.read(step, epoch))
            if self._interruption.requested:
                ahead.close()
                return
        if meter.tallies:
            self._report(meter.read(done + self._steps, epoch))

    def _report(self, report: Report) -> None:
        self._display.show(report)
        self._folder.record(kind="train", **report._asdict())

    def _validate(self, save: Save, epoch: int, best: Progress | None) -> Progress:
        variables = learners.evaluated(self._learner)
        result = evaluate(self._measure, variables, self._validation)
        progress = self._progress(epoch, result)
        self._folder.record(
            kind="validation",
            epoch=epoch,
            accuracy=result.accuracy,
            loss=result.loss,
            samples=result.samples,
            wall_s=progress.wall_s,
        )
        kept = best is None or _better(result, best.validation)
        mark = " (best so far)" if kept else ""
        self._display.say(f"epoch {epoch:>4}: validation {result}{mark}")
        if best is not None and not kept:
            return best
        save(self._folder.best, variables, progress)
        return progress

    def _leave(self, save: Save, epochs: int, *, interrupted: bool) -> Outcome:
        progress = self._progress(epochs, None)
        save(self._folder.last, learners.evaluated(self._learner), progress)
        return Outcome(self._folder.last, progress, interrupted)

    def _progress(self, epochs: int, result: Score | None) -> Progress:
        wall_s = time.perf_counter() - self._begun
        return Progress(len(self._train.events), epochs, wall_s, result)


def _better(result: Score, best: Score | None) -> bool:
    """Say whether a score is the better one; at equal accuracy the loss decides."""
    return best is None or (result.accuracy, -result.loss) > (best.accuracy, -best.loss)

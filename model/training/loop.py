"""The training loop: batches in, the best checkpoint out, stoppable by Ctrl-C.

The device never waits for the host within an epoch: batches are drawn ahead of it
(`input_pipeline`), and its metrics are fetched once in `logging.every_steps` steps.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax

from saccade.model.classifier import Variables
from saccade.model.training import augmentation, devices, optimizer, train_state
from saccade.model.training.checkpointing import Position, SavedStates
from saccade.model.training.dataset import Samples
from saccade.model.training.errors import InvalidSetting
from saccade.model.training.experiment import Experiment
from saccade.model.training.input_pipeline import (
    Batch,
    DrawBatches,
    LoadOptions,
    evaluation_batches,
    training_batches,
)
from saccade.model.training.loggers import MetricsLogger
from saccade.model.training.metrics import (
    MetricsAccumulator,
    Score,
    TrainReport,
    Validation,
    evaluate,
)
from saccade.model.training.progress import Display
from saccade.model.training.run_folder import RunFolder
from saccade.model.training.schedule import Schedule
from saccade.model.training.train_state import TrainState


class Interruption:
    """A flag that SIGINT and SIGTERM set."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first sets the flag, a second ends the process."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Yield a flag that SIGINT and SIGTERM set while the block runs.

    Signals reach Python's main thread only; in another thread the flag stays unset.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interruption.request) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class TrainingProgress(NamedTuple):
    """How far a run is, as a checkpoint's manifest records it.

    Attributes:
        samples: Distinct samples trained on.
        epochs: Completed.
        wall_s: Seconds since the run began.
        validation: The score of these weights, if they were validated.
    """

    samples: int
    epochs: int
    wall_s: float
    validation: Score | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        validation = None if self.validation is None else self.validation.to_dict()
        return {**self._asdict(), "validation": validation}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingProgress:
        """Build from what `to_dict` returns."""
        found = values["validation"]
        score = None if found is None else Score.from_dict(found)
        return cls(**{**values, "validation": score})


class Data(NamedTuple):
    """Samples to train on and to validate with."""

    train: Samples
    validation: Samples


class RunResult(NamedTuple):
    """The end of a run: the checkpoint to use, and its progress."""

    checkpoint: Path
    progress: TrainingProgress
    interrupted: bool


SaveCheckpoint = Callable[[Path, Variables, TrainingProgress], None]


class Run:
    """One run of an experiment."""

    def __init__(
        self,
        experiment: Experiment,
        data: Data,
        folder: RunFolder,
        logger: MetricsLogger,
        display: Display,
        interruption: Interruption,
    ) -> None:
        self._experiment = experiment
        self._folder = folder
        self._logger = logger
        self._display = display
        self._interruption = interruption
        self._began_s = time.perf_counter()
        self._several = jax.process_count() > 1
        settings = experiment.settings
        epochs = settings.training.epochs
        self._train = data.train
        self._validation = self._evaluation_batches(data.validation)
        self._schedule = Schedule(
            experiment.plan, len(self._train.events), epochs, settings.seed
        )
        self._steps = self._schedule.steps
        self._position = Position(samples=len(self._train.events))
        self._metrics = MetricsAccumulator(folder.diverged)
        tx = optimizer.make_optimizer(settings.optimizer, self._steps * epochs)
        mesh = devices.make_mesh(settings.system)
        self._replicated = devices.replicated(mesh)
        self._state = self._replicate(train_state.create(experiment.variables(), tx))
        self._train_step = train_state.make_train_step(
            experiment.classifier,
            tx,
            settings.training.label_smoothing,
            settings.training.ema_decay,
            settings.seed,
            mesh,
        )
        self._eval_step = train_state.make_eval_step(experiment.config)

    def train(self, save: SaveCheckpoint) -> RunResult:
        """Run every epoch, or as many as there are before an interruption.

        Args:
            save: Called with a folder, weights and progress after each validation that
                is the best so far, or else at the end.
        """
        settings = self._experiment.settings
        epochs, patience = settings.training.epochs, settings.training.patience
        self._display.begin(self._steps * epochs)
        with SavedStates(self._folder.state) as states:
            if settings.resume is not None:
                self._restore(states)
            with closing(self._batches()) as batches:
                while (
                    self._position.epochs < epochs
                    and not 0 < patience <= self._position.stale
                ):
                    if self._epoch(batches, self._position.epochs + 1):
                        self._save_state(states)
                        return self._save_last(save, interrupted=True)
                    self._end_epoch(save)
                    self._save_state(states)
        best = self._best()
        if best is None:
            return self._save_last(save, interrupted=False)
        return RunResult(self._folder.best, best, interrupted=False)

    def _end_epoch(self, save: SaveCheckpoint) -> None:
        epochs, training = self._position.epochs + 1, self._experiment.settings.training
        self._position = replace(self._position, epochs=epochs, batches=0)
        due = epochs % training.validate_every == 0 or epochs == training.epochs
        if self._validation and due:
            self._validate(save, epochs)

    def _replicate(self, state: TrainState) -> TrainState:
        """Put the whole state on every device."""
        replicated: TrainState = jax.device_put(state, self._replicated)
        return replicated

    def _restore(self, states: SavedStates) -> None:
        """Resume from the newest state."""
        state, position = states.restore(self._state)
        self._state = self._replicate(state)
        if position.samples != self._position.samples:
            raise InvalidSetting(
                "resume",
                f"the run began with {position.samples} training samples; "
                f"now there are {self._position.samples}",
            )
        self._position = position
        self._began_s -= position.wall_s
        self._metrics.restore(position.pending)
        self._folder.cut_metrics(position.metrics_bytes)
        self._display.write(f"going on after {position.epochs} whole epochs")

    def _save_state(self, states: SavedStates) -> None:
        self._position = replace(
            self._position,
            pending=self._metrics.pending(),
            metrics_bytes=self._folder.metrics_bytes(),
            wall_s=time.perf_counter() - self._began_s,
        )
        states.save(self._state, self._position)

    def _evaluation_batches(self, samples: Samples) -> list[Batch]:
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

    def _epoch(self, batches: Iterator[Batch], epoch: int) -> bool:
        """Take the steps that are left of an epoch, or until an interruption.

        Returns:
            Whether the run was interrupted.
        """
        first = (epoch - 1) * self._steps + self._position.batches + 1
        left = islice(batches, self._steps - self._position.batches)
        for step, batch in enumerate(left, start=first):
            self._state, tally = self._train_step(self._state, batch)
            self._metrics.add(step, batch, tally)
            self._position = replace(self._position, batches=self._position.batches + 1)
            if step % self._experiment.settings.logging.every_steps == 0:
                self._report(self._metrics.read(step, epoch))
            if self._interrupted(step):
                return True
        if self._metrics.tallies:
            self._report(self._metrics.read(epoch * self._steps, epoch))
        return False

    def _interrupted(self, step: int) -> bool:
        """Return whether to stop after a step: several processes stop after the same.

        Processes ask each other only when metrics are reported, since an answer waits
        for the device.
        """
        every = self._experiment.settings.logging.every_steps
        if self._several and step % every and step % self._steps:
            return False
        return devices.any_process(self._interruption.requested)

    def _batches(self) -> Generator[Batch, None, None]:
        """Return the batches that are left, of all epochs, drawn ahead."""
        experiment, system = self._experiment, self._experiment.settings.system
        settings = experiment.settings.augmentation
        draw = DrawBatches(
            self._train,
            len(experiment.task.labels),
            settings.mix,
            augmentation.compose(settings, experiment.task.sensor),
            experiment.encode,
            experiment.config.tick_events,
        )
        first = self._schedule.find(self._position.epochs, self._position.batches)
        options = LoadOptions(system.loaders, system.prefetch_batches)
        return training_batches(self._schedule, draw, first, options)

    def _report(self, report: TrainReport) -> None:
        self._display.show(report)
        self._logger.train(report, time.perf_counter() - self._began_s)

    def _validate(self, save: SaveCheckpoint, epoch: int) -> None:
        variables = self._eval_variables()
        score = evaluate(self._eval_step, variables, self._validation)
        progress, best = self._progress(epoch, score), self._best()
        is_best = _better(score, None if best is None else best.validation)
        self._logger.validate(Validation(epoch * self._steps, epoch, score, is_best))
        mark = " (best so far)" if is_best else ""
        self._display.write(f"epoch {epoch:>4}: validation {score}{mark}")
        if not is_best:
            self._position = replace(self._position, stale=self._position.stale + 1)
            return
        save(self._folder.best, variables, progress)
        self._position = replace(self._position, best=progress.to_dict(), stale=0)

    def _best(self) -> TrainingProgress | None:
        best = self._position.best
        return None if best is None else TrainingProgress.from_dict(best)

    def _eval_variables(self) -> Variables:
        """Return the variables to validate and to save, in the host's memory."""
        variables: Variables = jax.device_get(train_state.eval_variables(self._state))
        return variables

    def _save_last(self, save: SaveCheckpoint, *, interrupted: bool) -> RunResult:
        progress = self._progress(self._position.epochs, None)
        save(self._folder.last, self._eval_variables(), progress)
        return RunResult(self._folder.last, progress, interrupted)

    def _progress(self, epochs: int, score: Score | None) -> TrainingProgress:
        wall_s = time.perf_counter() - self._began_s
        return TrainingProgress(len(self._train.events), epochs, wall_s, score)


def _better(score: Score, best: Score | None) -> bool:
    """Return whether a score beats the best; at equal accuracy the loss decides."""
    return best is None or (score.accuracy, -score.loss) > (best.accuracy, -best.loss)

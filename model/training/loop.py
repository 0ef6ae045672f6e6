"""Ctrl-C as a request, so that a run ends between two steps with its work saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax

from saccade.model.classifier import Variables
from saccade.model.training import (
    augmentation,
    devices,
    optimizer,
    train_state as learners,
)
from saccade.model.training.checkpointing import Position, States
from saccade.model.training.dataset import Samples
from saccade.model.training.errors import InvalidSetting
from saccade.model.training.experiment import Experiment
from saccade.model.training.input_pipeline import (
    Batch,
    Draw,
    Loading,
    evaluation_batches,
    training_batches,
)
from saccade.model.training.loggers import Log, Validation
from saccade.model.training.metrics import Meter, Score, evaluate
from saccade.model.training.progress import Display, Report
from saccade.model.training.run_folder import RunFolder
from saccade.model.training.schedule import Schedule
from saccade.model.training.train_state import Learner


class Interruption:
    """Whether somebody asked this run to stop."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, number: int, frame: FrameType | None) -> None:
        """Note the first request; a second one does not wait."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turn SIGINT and SIGTERM into a request while the block runs.

    Signals reach Python's main thread only; elsewhere nothing is ever requested.
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


# >>> merged from model.training.loop
# >>> """The training loop: batches in, the best checkpoint out.
# >>>
# >>> The device never waits for the host within an epoch: batches are drawn ahead of it
# >>> (`pipeline`), and its metrics are fetched once in `logging.every_steps` steps.
# >>> """


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


class Run:
    """One run of an experiment."""

    def __init__(
        self,
        experiment: Experiment,
        data: Data,
        folder: RunFolder,
        log: Log,
        display: Display,
        interruption: Interruption,
    ) -> None:
        self._experiment = experiment
        self._folder = folder
        self._log = log
        self._display = display
        self._interruption = interruption
        self._begun = time.perf_counter()
        settings, config = experiment.settings, experiment.config
        self._train = data.train
        self._validation = self._whole(data.validation)
        self._schedule = Schedule(
            experiment.plan,
            len(self._train.events),
            settings.training.epochs,
            settings.seed,
        )
        self._steps = self._schedule.steps
        self._at = Position(samples=len(self._train.events))
        self._meter = Meter(folder.diverged)
        transform = optimizer.optimizer(
            settings.optimizer, self._steps * settings.training.epochs
        )
        mesh = devices.mesh(settings.system)
        self._everywhere = devices.on_all(mesh)
        self._learner = self._place(learners.init(experiment.variables(), transform))
        self._step = learners.make_step(
            experiment.classifier,
            transform,
            settings.training.label_smoothing,
            settings.training.ema_decay,
            settings.seed,
            mesh,
        )
        self._measure = learners.make_measure(config)

    def train(self, save: Save) -> Outcome:
        """Run every epoch, or as many as there are before an interruption.

        Args:
            save: Called with a folder, weights, and how far training is, whenever
                a validation is the best so far, or else at the end.
        """
        settings = self._experiment.settings
        epochs, patience = settings.training.epochs, settings.training.patience
        self._display.begin(self._steps * epochs)
        with States(self._folder.state) as states:
            if settings.resume is not None:
                self._take_up(states)
            with closing(self._batches()) as batches:
                while self._at.epochs < epochs and not 0 < patience <= self._at.stale:
                    self._epoch(batches, self._at.epochs + 1)
                    if self._interruption.requested:
                        self._keep(states)
                        return self._leave(save, interrupted=True)
                    self._end_epoch(save)
                    self._keep(states)
        if self._at.best is None:
            return self._leave(save, interrupted=False)
        return Outcome(self._folder.best, _progress(self._at.best), interrupted=False)

    def _end_epoch(self, save: Save) -> None:
        self._at = replace(self._at, epochs=self._at.epochs + 1, batches=0)
        if self._validation and self._due(self._at.epochs):
            self._validate(save, self._at.epochs)

    def _place(self, learner: Learner) -> Learner:
        """Give every device the learner whole."""
        placed: Learner = jax.device_put(learner, self._everywhere)
        return placed

    def _take_up(self, states: States) -> None:
        """Go on where the newest state is."""
        learner, found = states.restore(self._learner)
        self._learner = self._place(learner)
        if found.samples != self._at.samples:
            raise InvalidSetting(
                "resume",
                f"the run began with {found.samples} training samples; "
                f"now there are {self._at.samples}",
            )
        self._at = found
        self._begun -= found.wall_s
        self._meter.take_up(found.pending)
        self._folder.cut_metrics(found.metrics_bytes)
        self._display.say(f"going on after {found.epochs} whole epochs")

    def _keep(self, states: States) -> None:
        self._at = replace(
            self._at,
            pending=self._meter.pending(),
            metrics_bytes=self._folder.metrics_bytes(),
            wall_s=time.perf_counter() - self._begun,
        )
        states.save(self._learner, self._at)

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

    def _epoch(self, batches: Iterator[Batch], epoch: int) -> None:
        """Do what is left of an epoch, or until an interruption."""
        first = self._at.batches + 1
        ahead = islice(batches, self._steps - self._at.batches)
        begun = (epoch - 1) * self._steps
        for step, batch in enumerate(ahead, start=begun + first):
            self._learner, tally = self._step(self._learner, batch)
            self._meter.add(step, batch, tally)
            self._at = replace(self._at, batches=self._at.batches + 1)
            if step % self._experiment.settings.logging.every_steps == 0:
                self._report(self._meter.read(step, epoch))
            if self._interruption.requested:
                return
        if self._meter.tallies:
            self._report(self._meter.read(epoch * self._steps, epoch))

    def _batches(self) -> Generator[Batch, None, None]:
        """Return the batches that are left, of all epochs, drawn ahead."""
        experiment, system = self._experiment, self._experiment.settings.system
        draw = Draw(
            self._train,
            len(experiment.task.labels),
            experiment.settings.augmentation.mix,
            augmentation.compose(
                experiment.settings.augmentation, experiment.task.sensor
            ),
            experiment.encode,
            experiment.config.tick_events,
        )
        first = self._schedule.find(self._at.epochs, self._at.batches)
        loading = Loading(system.loaders, system.prefetch_batches)
        return training_batches(self._schedule, draw, first, loading)

    def _report(self, report: Report) -> None:
        self._display.show(report)
        self._log.train(report, time.perf_counter() - self._begun)

    def _validate(self, save: Save, epoch: int) -> None:
        variables = self._evaluated()
        result = evaluate(self._measure, variables, self._validation)
        progress = self._progress(epoch, result)
        best = None if self._at.best is None else _progress(self._at.best).validation
        kept = _better(result, best)
        self._log.validate(Validation(epoch * self._steps, epoch, result, kept))
        mark = " (best so far)" if kept else ""
        self._display.say(f"epoch {epoch:>4}: validation {result}{mark}")
        if not kept:
            self._at = replace(self._at, stale=self._at.stale + 1)
            return
        save(self._folder.best, variables, progress)
        self._at = replace(self._at, best=_plain(progress), stale=0)

    def _evaluated(self) -> Variables:
        """Return the variables to validate and to save, on no device yet."""
        variables: Variables = jax.device_get(learners.evaluated(self._learner))
        return variables

    def _leave(self, save: Save, *, interrupted: bool) -> Outcome:
        progress = self._progress(self._at.epochs, None)
        save(self._folder.last, self._evaluated(), progress)
        return Outcome(self._folder.last, progress, interrupted)

    def _progress(self, epochs: int, result: Score | None) -> Progress:
        wall_s = time.perf_counter() - self._begun
        return Progress(len(self._train.events), epochs, wall_s, result)


def _plain(progress: Progress) -> dict[str, Any]:
    """Return plain JSON values."""
    result = progress.validation
    return {
        **progress._asdict(),
        "validation": None if result is None else result._asdict(),
    }


def _progress(values: dict[str, Any]) -> Progress:
    """Return what `_plain` was given."""
    result = values["validation"]
    if result is not None:
        low, high = result["ci95"]
        result = Score(**{**result, "ci95": (low, high)})
    return Progress(**{**values, "validation": result})


def _better(result: Score, best: Score | None) -> bool:
    """Say whether a score is the better one; at equal accuracy the loss decides."""
    return best is None or (result.accuracy, -result.loss) > (best.accuracy, -best.loss)

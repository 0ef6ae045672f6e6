"""Accuracy and loss of a model: sums over batches, scores, and their confidence."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saccade.model.classifier import Variables
from saccade.model.training.errors import TrainingDiverged
from saccade.model.training.input_pipeline import Batch
from saccade.model.training.train_state import EvalStep, Tally

Z_95: Final = 1.959963984540054


class Score(NamedTuple):
    """Accuracy and loss of a model on some samples.

    Attributes:
        accuracy: Share of samples whose class has the highest score.
        samples: Number of samples.
        ci95: Wilson's 95% interval of the accuracy.
        loss: Mean cross-entropy, nats.
        unanswered: Samples too short for an answer; in `accuracy` they are wrong.
    """

    accuracy: float
    samples: int
    ci95: tuple[float, float]
    loss: float
    unanswered: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**self._asdict(), "ci95": list(self.ci95)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Score:
        """Build from what `to_dict` returns; other keys are ignored.

        Raises:
            KeyError, TypeError, ValueError: A value is missing or no number.
        """
        low, high = map(float, values["ci95"])
        accuracy, loss = float(values["accuracy"]), float(values["loss"])
        unanswered = int(values.get("unanswered", 0))
        return cls(accuracy, int(values["samples"]), (low, high), loss, unanswered)

    def accuracy_of(self, samples: str) -> str:
        """Return the accuracy as text, with a noun for the samples."""
        low, high = self.ci95
        short = (
            f"; {self.unanswered} too short for an answer" if self.unanswered else ""
        )
        return (
            f"{self.accuracy:.1%} of {self.samples} {samples} "
            f"(95% interval {low:.1%} to {high:.1%}{short})"
        )

    def __str__(self) -> str:
        return f"accuracy {self.accuracy_of('samples')}, loss {self.loss:.3f}"


class Validation(NamedTuple):
    """The result of one validation.

    Attributes:
        step: Training steps before it.
        epoch: Whole epochs before it.
        score: Of the weights at that step.
        best: Whether the score is the best so far.
    """

    step: int
    epoch: int
    score: Score
    best: bool


class TrainReport(NamedTuple):
    """Training metrics since the previous report.

    Attributes:
        step: Steps taken since the run began.
        epoch: The present one, from 1.
        loss: Mean over the samples since the previous report, nats.
        accuracy: Share of those samples, augmented, that were classified correctly.
        events_per_s: Speed, padding not counted.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float
    events_per_s: float


def wilson(correct: int, samples: int) -> tuple[float, float]:
    """Return the 95% score interval of a proportion (Wilson 1927).

    Unlike the normal approximation it stays within [0, 1] and is right
    near 100%, where a good classifier lies.
    """
    if samples == 0:
        return 0.0, 1.0
    share, z2 = correct / samples, Z_95**2
    centre = share + z2 / (2 * samples)
    spread = Z_95 * math.sqrt(
        share * (1 - share) / samples + z2 / (4 * samples * samples)
    )
    scale = 1 + z2 / samples
    return max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0)


def score(tallies: Iterable[Tally]) -> Score:
    """Add up tallies; ragged batches weigh exactly as many samples as they hold."""
    total = [0.0, 0.0, 0.0]
    for tally in jax.device_get(list(tallies)):
        for place, value in enumerate((tally.loss, tally.correct, tally.rows)):
            total[place] += float(value)
    loss, correct, rows = total
    samples = round(rows)
    return Score(
        accuracy=correct / samples if samples else 0.0,
        samples=samples,
        ci95=wilson(round(correct), samples),
        loss=loss / samples if samples else 0.0,
    )


def evaluate(
    eval_step: EvalStep, variables: Variables, batches: Iterable[Batch]
) -> Score:
    """Score a model on all batches."""
    return score(eval_step(variables, batch) for batch in batches)


@dataclass
class MetricsAccumulator:
    """Training metrics between two reports; they stay on the device until read.

    Attributes:
        diverged: File for the batch whose loss is not finite.
    """

    diverged: Path
    tallies: list[Tally] = field(default_factory=list)
    batches: list[tuple[int, Batch]] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)

    def add(self, step: int, batch: Batch, tally: Tally) -> None:
        """Add one step, without waiting for the device."""
        self.tallies.append(tally)
        self.batches.append((step, batch))

    def read(self, step: int, epoch: int) -> TrainReport:
        """Wait for the device, report the metrics since the last call, and reset.

        Raises:
            TrainingDiverged: The loss is no longer finite.
        """
        tallies: list[Tally] = jax.device_get(self.tallies)
        self._check(tallies)
        result = score(tallies)
        now = time.perf_counter()
        speed = sum(int(t.events) for t in tallies) / (now - self.since)
        self.tallies, self.batches, self.since = [], [], now
        return TrainReport(step, epoch, result.loss, result.accuracy, speed)

    def pending(self) -> list[list[float]]:
        """Return the tallies since the last report as plain numbers."""
        tallies: list[Tally] = jax.device_get(self.tallies)
        return [[float(value) for value in tally] for tally in tallies]

    def restore(self, pending: list[list[float]]) -> None:
        """Add the tallies that `pending` returned."""
        for loss, correct, rows, events in pending:
            sums = jnp.float32(loss), jnp.float32(correct), jnp.float32(rows)
            self.tallies.append(Tally(*sums, jnp.int32(events)))

    def _check(self, tallies: list[Tally]) -> None:
        fresh = tallies[len(tallies) - len(self.batches) :]
        for (step, batch), tally in zip(self.batches, fresh, strict=True):
            if not math.isfinite(float(tally.loss)):
                np.savez_compressed(self.diverged, **batch._asdict())
                raise TrainingDiverged(step, float(tally.loss), self.diverged)

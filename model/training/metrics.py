"""Accuracy, with how sure one may be of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saccade.model.classifier import Variables
from saccade.model.training.errors import TrainingDiverged
from saccade.model.training.input_pipeline import Batch
from saccade.model.training.progress import Report
from saccade.model.training.train_state import Measure, Tally

Z_95: Final = 1.959963984540054


class Score(NamedTuple):
    """How well a model does on some samples.

    Attributes:
        accuracy: Share of samples whose class has the highest score.
        samples: How many there were.
        ci95: Wilson's 95% interval of the accuracy.
        loss: Mean cross-entropy, nats.
    """

    accuracy: float
    samples: int
    ci95: tuple[float, float]
    loss: float

    def __str__(self) -> str:
        low, high = self.ci95
        return (
            f"accuracy {self.accuracy:.1%} of {self.samples} samples "
            f"(95% interval {low:.1%} to {high:.1%}), loss {self.loss:.3f}"
        )


def wilson(correct: int, samples: int) -> tuple[float, float]:
    """Return the 95% score interval of a proportion (Wilson 1927).

    Unlike the normal approximation it stays within [0, 1] and is right
    near 100%, where a good classifier lives.
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


def evaluate(measure: Measure, variables: Variables, batches: Iterable[Batch]) -> Score:
    """Measure a model on all batches."""
    return score(measure(variables, batch) for batch in batches)


# >>> merged from model.training.meter
# >>> """What happened since the last look at the device's metrics."""


@dataclass
class Meter:
    """Sums tallies and times between two looks; keeps the batches until then.

    Attributes:
        diverged: Where the batch goes that makes the loss no number.
    """

    diverged: Path
    tallies: list[Tally] = field(default_factory=list)
    batches: list[tuple[int, Batch]] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)

    def add(self, step: int, batch: Batch, tally: Tally) -> None:
        """Take in one step; the device is not waited for."""
        self.tallies.append(tally)
        self.batches.append((step, batch))

    def read(self, step: int, epoch: int) -> Report:
        """Wait for the device, and return what happened since the last reading.

        Raises:
            TrainingDiverged: The loss is no longer a number.
        """
        tallies: list[Tally] = jax.device_get(self.tallies)
        self._check(tallies)
        result = score(tallies)
        now = time.perf_counter()
        speed = sum(int(t.events) for t in tallies) / (now - self.since)
        self.tallies, self.batches, self.since = [], [], now
        return Report(step, epoch, result.loss, result.accuracy, speed)

    def pending(self) -> list[list[float]]:
        """Return the tallies since the last reading as plain numbers."""
        tallies: list[Tally] = jax.device_get(self.tallies)
        return [[float(value) for value in tally] for tally in tallies]

    def take_up(self, pending: list[list[float]]) -> None:
        """Go on from what `pending` returned."""
        for loss, correct, rows, events in pending:
            self.tallies.append(
                Tally(
                    loss=jnp.float32(loss),
                    correct=jnp.float32(correct),
                    rows=jnp.float32(rows),
                    events=jnp.int32(events),
                )
            )

    def _check(self, tallies: list[Tally]) -> None:
        fresh = tallies[len(tallies) - len(self.batches) :]
        for (step, batch), tally in zip(self.batches, fresh, strict=True):
            if not math.isfinite(float(tally.loss)):
                np.savez_compressed(self.diverged, **batch._asdict())
                raise TrainingDiverged(step, float(tally.loss), self.diverged)

"""Accuracy, with how sure one may be of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

import jax

from saccade.model.classifier import Variables
from saccade.model.training.batches import Batch
from saccade.model.training.learner import Measure, Tally

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

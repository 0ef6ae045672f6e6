"""What predictions are worth: overall, class by class, and when they were final."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.training.evaluate import Score, wilson
from saccade.model.training.prediction import Course, Predictions, Reals
from saccade.model.training.settings import Mode

Counts = npt.NDArray[np.int64]


class ClassScore(NamedTuple):
    """How well one class is told.

    Attributes:
        label: Its name.
        samples: How many there were.
        recall: Share of them that were recognised; None where there were none.
        precision: Share of those taken for it that were it; None where none was.
        ci95: Wilson's 95% interval of the recall.
    """

    label: str
    samples: int
    recall: float | None
    precision: float | None
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Assessment:
    """A model's predictions for a split, and what follows from them.

    Attributes:
        split: Of the task's samples.
        mode: How they were scored.
        labels: Class names.
        predictions: The scores.
        content_hash: Of the checkpoint whose they are.
    """

    split: str
    mode: Mode
    labels: tuple[str, ...]
    predictions: Predictions
    content_hash: str

    @property
    def score(self) -> Score:
        """Accuracy and loss; every sample counts once."""
        truth, logits = self.predictions.labels, self.predictions.logits
        right = int((logits.argmax(-1) == truth).sum())
        losses = -log_softmax(logits)[np.arange(truth.size), truth]
        return Score(
            accuracy=right / truth.size,
            samples=int(truth.size),
            ci95=wilson(right, truth.size),
            loss=float(losses.mean()),
        )

    @property
    def confusion(self) -> Counts:
        """How many samples of each class (row) were taken for which (column)."""
        size = len(self.labels)
        told = self.predictions.logits.argmax(-1)
        pairs = self.predictions.labels * size + told
        return np.bincount(pairs, minlength=size * size).reshape(size, size)

    @property
    def classes(self) -> list[ClassScore]:
        """One score a class."""
        confusion = self.confusion
        rows = zip(
            self.labels,
            np.diag(confusion).tolist(),
            confusion.sum(axis=1).tolist(),
            confusion.sum(axis=0).tolist(),
            strict=True,
        )
        return [
            ClassScore(
                label,
                held,
                _share(right, held),
                _share(right, told),
                wilson(right, held),
            )
            for label, right, held, told in rows
        ]

    @property
    def decisions_ms(self) -> Reals:
        """When each streamed sample's final answer was first given for good, ms.

        Samples of less than a tick never answer and are left out.
        """
        courses = self.predictions.courses
        return np.array([decision_ms(course) for course in courses if course.t_ms.size])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **self.score._asdict(),
            "split": self.split,
            "mode": self.mode,
            "events": self.predictions.events,
            "events_per_s": round(self.predictions.events_per_s, 1),
            "time_to_decision_ms": self._decision_quantiles(),
            "classes": [row._asdict() for row in self.classes],
            "confusion": self.confusion.tolist(),
            "content_hash": self.content_hash,
        }

    def _decision_quantiles(self) -> dict[str, float] | None:
        found = self.decisions_ms
        if not found.size:
            return None
        p50, p90 = np.percentile(found, [50, 90])
        return {"p50": round(float(p50), 3), "p90": round(float(p90), 3)}

    def __str__(self) -> str:
        lines = [f"{self.split}: {self.score}", *self._table()]
        if quantiles := self._decision_quantiles():
            lines.append(
                f"the answer was final after {quantiles['p50']:.1f} ms (median), "
                f"{quantiles['p90']:.1f} ms (90%)"
            )
        speed = self.predictions.events_per_s
        return "\n".join([*lines, f"{speed:,.0f} events/s ({self.mode})"])

    def _table(self) -> list[str]:
        wide = max(map(len, self.labels))
        lines = [f"  {'class':<{wide}}  samples  recognised  of those told"]
        for row in self.classes:
            recall, precision = _percent(row.recall), _percent(row.precision)
            name = f"{row.label:<{wide}}"
            lines.append(f"  {name}  {row.samples:>7}  {recall:>10}  {precision:>13}")
        return lines


def decision_ms(course: Course) -> float:
    """Return when the final answer was first given and never taken back."""
    answers = course.logits.argmax(-1)
    others = np.flatnonzero(answers != answers[-1])
    return float(course.t_ms[others[-1] + 1 if others.size else 0])


def log_softmax(logits: Reals) -> Reals:
    """Return the logarithm of each row's probabilities."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"

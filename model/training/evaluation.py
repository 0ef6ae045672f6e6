"""Predictions of a model for a split, whole or streamed, and their evaluation.

Both ways give the same scores (by test). A stream also gives the scores after each
tick: it keeps one carry a row and advances it by CHUNK_TICKS at a time, as the server
does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from saccade.model.backends import fastest
from saccade.model.classifier import Variables, fold, init_carry
from saccade.model.config import ModelConfig
from saccade.model.training.input_pipeline import Batch
from saccade.model.training.metrics import Score, wilson
from saccade.model.training.settings import Mode
from saccade.model.training.train_state import make_predict

CHUNK_TICKS: Final = 16

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class ScoreTrajectory(NamedTuple):
    """The scores of one streamed recording over time.

    Attributes:
        t_ms: Sensor time at which each tick was complete, from the first event, (k,).
        logits: The scores after each tick, (k, c).
    """

    t_ms: Reals
    logits: Reals


@dataclass
class Predictions:
    """Scores of all recordings of a split, in the order of the batches.

    Attributes:
        labels: The true classes, (n,).
        logits: The final scores, (n, c); zeros where there are none.
        trajectories: The scores over time; empty if the recordings were not streamed.
        events: Of all recordings, padding not counted.
        events_per_s: Speed, without batches that compiled a new shape.
        unanswered: The recordings shorter than a tick, which have no scores, by index.
    """

    labels: Integers
    logits: Reals
    trajectories: list[ScoreTrajectory]
    events: int
    events_per_s: float
    unanswered: Integers = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Whether each recording has scores, (n,)."""
        found = np.ones(self.labels.size, np.bool_)
        found[self.unanswered] = False
        return found


Predictor = Callable[[ModelConfig, Variables, Iterable[Batch]], Predictions]
Scoring = Callable[[Batch], tuple[Reals, list[ScoreTrajectory]]]
"""A batch to its rows' final scores and, of a stream, their trajectories."""


@dataclass
class Throughput:
    """Events and seconds of the batches with a shape that was compiled before."""

    seen: set[tuple[int, ...]] = field(default_factory=set)
    events: int = 0
    seconds: float = 0.0
    with_compilation: float = 0.0

    def add(self, shape: tuple[int, ...], events: int, seconds: float) -> None:
        """Add one batch."""
        if shape in self.seen:
            self.events += events
            self.seconds += seconds
        self.seen.add(shape)
        self.with_compilation += seconds

    def rate(self, all_events: int) -> float:
        """Return events/s; compilation counts only if every batch compiled a shape."""
        if self.seconds:
            return self.events / self.seconds
        return all_events / self.with_compilation if self.with_compilation else 0.0


def predict_whole(
    config: ModelConfig, variables: Variables, batches: Iterable[Batch]
) -> Predictions:
    """Score whole recordings, as training does."""
    predict = make_predict(config)

    def score(batch: Batch) -> tuple[Reals, list[ScoreTrajectory]]:
        rows = (batch.tokens, batch.dt_ms, batch.lengths)
        return np.asarray(predict(variables, *map(jnp.asarray, rows)), np.float64), []

    return _collect(score, batches, config.tick_events)


def predict_streams(
    config: ModelConfig, variables: Variables, batches: Iterable[Batch]
) -> Predictions:
    """Score recordings as streams, each row with a carry of its own."""
    backend = fastest(config, fold(config, variables))
    fresh = init_carry(config, variables)
    advance = partial(_jitted(backend.advance, config), backend.weights)

    def score(batch: Batch) -> tuple[Reals, list[ScoreTrajectory]]:
        tick = config.tick_events
        ticks = batch.lengths // tick
        logits = _stream(config, advance, fresh, batch, ticks)
        ends_ms = np.cumsum(batch.dt_ms, axis=1, dtype=np.float64)[:, tick - 1 :: tick]
        trajectories = [
            ScoreTrajectory(ends_ms[row, :count], logits[row, :count])
            for row, count in enumerate(ticks.tolist())
        ]
        return logits[:, -1], trajectories

    return _collect(score, batches, config.tick_events)


def _stream(
    config: ModelConfig,
    advance: Callable[..., Any],
    fresh: Any,
    batch: Batch,
    ticks: npt.NDArray[np.int32],
) -> Reals:
    """Return the scores after each tick, (b, k, c); repeated past a row's own ticks."""
    rows, length = batch.tokens.shape
    carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * rows), fresh)
    parts = []
    for begin in range(0, length, CHUNK_TICKS * config.tick_events):
        part = slice(begin, begin + CHUNK_TICKS * config.tick_events)
        done = begin // config.tick_events
        left = np.clip(ticks - done, 0, CHUNK_TICKS)
        carry, logits = advance(
            carry, batch.tokens[:, part], batch.dt_ms[:, part], left
        )
        parts.append(logits)
    return np.concatenate([np.asarray(part, np.float64) for part in parts], axis=1)


@cache
def _jitted(advance: Callable[..., Any], config: ModelConfig) -> Callable[..., Any]:
    return jax.jit(partial(advance, config), donate_argnums=1)


def _collect(score: Scoring, batches: Iterable[Batch], tick_events: int) -> Predictions:
    labels, logits, trajectories, short = [], [], [], []
    throughput, events = Throughput(), 0
    for batch in batches:
        real = np.flatnonzero(batch.weights)
        held = int(batch.lengths[real].sum())
        began_s = time.perf_counter()
        scored, over_time = score(batch)
        throughput.add(batch.tokens.shape, held, time.perf_counter() - began_s)
        events += held
        labels.append(batch.targets[real].argmax(-1))
        short.append(batch.lengths[real] < tick_events)
        logits.append(np.where(short[-1][:, None], 0.0, scored[real]))
        trajectories += [over_time[row] for row in real] if over_time else []
    return Predictions(
        np.concatenate(labels),
        np.concatenate(logits),
        trajectories,
        events,
        throughput.rate(events),
        np.flatnonzero(np.concatenate(short)),
    )


class ClassScore(NamedTuple):
    """Recall and precision of one class.

    Attributes:
        label: The class's name.
        samples: Samples of this class.
        recall: Share of these samples that were predicted right; None without any.
        precision: Share of this class's predictions that are right; None without any.
        ci95: Wilson's 95% interval of the recall.
    """

    label: str
    samples: int
    recall: float | None
    precision: float | None
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Evaluation:
    """A model's predictions for a split, and the figures that follow from them.

    Attributes:
        split: Of the task's samples.
        mode: Scored whole or streamed.
        labels: Class names.
        predictions: The scores.
        content_hash: Of the checkpoint.
    """

    split: str
    mode: Mode
    labels: tuple[str, ...]
    predictions: Predictions
    content_hash: str

    @property
    def score(self) -> Score:
        """Accuracy and loss; a sample without an answer counts as wrong."""
        truth, logits = self.predictions.labels, self.predictions.logits
        right = int(((logits.argmax(-1) == truth) & self.predictions.answered).sum())
        losses = -log_softmax(logits)[np.arange(truth.size), truth]
        return Score(
            accuracy=right / truth.size,
            samples=int(truth.size),
            ci95=wilson(right, truth.size),
            loss=float(losses.mean()),
            unanswered=int(self.predictions.unanswered.size),
        )

    @property
    def confusion(self) -> Integers:
        """Number of samples of each class (row) by predicted class (column).

        Samples without an answer are left out.
        """
        size, answered = len(self.labels), self.predictions.answered
        predicted = self.predictions.logits[answered].argmax(-1)
        pairs = self.predictions.labels[answered] * size + predicted
        return np.bincount(pairs, minlength=size * size).reshape(size, size)

    @property
    def classes(self) -> list[ClassScore]:
        """One score a class."""
        confusion = self.confusion
        rows = zip(
            self.labels,
            np.diag(confusion).tolist(),
            np.bincount(self.predictions.labels, minlength=len(self.labels)).tolist(),
            confusion.sum(axis=0).tolist(),
            strict=True,
        )
        return [
            ClassScore(
                label,
                held,
                _share(right, held),
                _share(right, predicted),
                wilson(right, held),
            )
            for label, right, held, predicted in rows
        ]

    @property
    def decisions_ms(self) -> Reals:
        """The decision time of each streamed sample, ms; see `decision_ms`.

        Samples of less than a tick have no scores and are left out.
        """
        trajectories = self.predictions.trajectories
        return np.array(
            [
                decision_ms(trajectory)
                for trajectory in trajectories
                if trajectory.t_ms.size
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **self.score.to_dict(),
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
        decisions_ms = self.decisions_ms
        if not decisions_ms.size:
            return None
        p50, p90 = np.percentile(decisions_ms, [50, 90])
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
        lines = [f"  {'class':<{wide}}  samples      recall      precision"]
        for row in self.classes:
            recall, precision = _percent(row.recall), _percent(row.precision)
            name = f"{row.label:<{wide}}"
            lines.append(f"  {name}  {row.samples:>7}  {recall:>10}  {precision:>13}")
        return lines


def decision_ms(trajectory: ScoreTrajectory) -> float:
    """Return the time, ms, from which on the top class is the final one."""
    answers = trajectory.logits.argmax(-1)
    others = np.flatnonzero(answers != answers[-1])
    return float(trajectory.t_ms[others[-1] + 1 if others.size else 0])


def log_softmax(logits: Reals) -> Reals:
    """Return the logarithm of each row's probabilities."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"

"""What a model says of some recordings: whole, or as a stream tick by tick.

Both give the same scores (by test). A stream also tells the scores after each tick:
it keeps a carry a row and moves it by CHUNK_TICKS at a time, as the server does.
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

from saccade.model.classifier import Variables
from saccade.model.config import ModelConfig
from saccade.model.execution import fastest
from saccade.model.streaming import fold, init_carry
from saccade.model.training.batches import Batch
from saccade.model.training.learner import make_predict

CHUNK_TICKS: Final = 16

Reals = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]


class Course(NamedTuple):
    """How the scores of one recording went.

    Attributes:
        t_ms: When each tick was complete, from the first event, (k,).
        logits: The scores then, (k, c).
    """

    t_ms: Reals
    logits: Reals


@dataclass
class Predictions:
    """Scores of all recordings of a split, in the order of the batches.

    Attributes:
        labels: The true classes, (n,).
        logits: The final scores, (n, c).
        courses: How they went, if they were streamed; else empty.
        events: Scored or too few for a tick, padding not counted.
        events_per_s: While nothing was compiled.
    """

    labels: Classes
    logits: Reals
    courses: list[Course]
    events: int
    events_per_s: float


Predictor = Callable[[ModelConfig, Variables, Iterable[Batch]], Predictions]
Score = Callable[[Batch], tuple[Reals, list[Course]]]
"""A batch to the final scores of its rows and, of a stream, their courses."""


@dataclass
class Clock:
    """Events and seconds of the batches whose shape was compiled before."""

    seen: set[tuple[int, ...]] = field(default_factory=set)
    events: int = 0
    seconds: float = 0.0
    with_compilation: float = 0.0

    def count(self, shape: tuple[int, ...], events: int, seconds: float) -> None:
        """Take in one batch."""
        if shape in self.seen:
            self.events += events
            self.seconds += seconds
        self.seen.add(shape)
        self.with_compilation += seconds

    def rate(self, all_events: int) -> float:
        """Return events/s; where every batch compiled something, that included."""
        if self.seconds:
            return self.events / self.seconds
        return all_events / self.with_compilation if self.with_compilation else 0.0


def predict_whole(
    config: ModelConfig, variables: Variables, batches: Iterable[Batch]
) -> Predictions:
    """Score whole recordings, as training does."""
    predict = make_predict(config)

    def score(batch: Batch) -> tuple[Reals, list[Course]]:
        rows = (batch.tokens, batch.dt_ms, batch.lengths)
        return np.asarray(predict(variables, *map(jnp.asarray, rows)), np.float64), []

    return _collect(score, batches)


def predict_streams(
    config: ModelConfig, variables: Variables, batches: Iterable[Batch]
) -> Predictions:
    """Score recordings as streams, each row with a carry of its own."""
    execution = fastest(config, fold(config, variables))
    fresh = init_carry(config, variables)
    move = partial(_jitted(execution.advance, config), execution.weights)

    def score(batch: Batch) -> tuple[Reals, list[Course]]:
        tick = config.tick_events
        ticks = batch.lengths // tick
        logits = _stream(config, move, fresh, batch, ticks)
        ends_ms = np.cumsum(batch.dt_ms, axis=1, dtype=np.float64)[:, tick - 1 :: tick]
        courses = [
            Course(ends_ms[row, :count], logits[row, :count])
            for row, count in enumerate(ticks.tolist())
        ]
        return logits[:, -1], courses

    return _collect(score, batches)


def _stream(
    config: ModelConfig,
    move: Callable[..., Any],
    fresh: Any,
    batch: Batch,
    ticks: npt.NDArray[np.int32],
) -> Reals:
    """Return the scores after each tick, (b, k, c); past a row's own they repeat."""
    rows, length = batch.tokens.shape
    carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * rows), fresh)
    heard = []
    for begin in range(0, length, CHUNK_TICKS * config.tick_events):
        part = slice(begin, begin + CHUNK_TICKS * config.tick_events)
        done = begin // config.tick_events
        moving = np.clip(ticks - done, 0, CHUNK_TICKS)
        carry, logits = move(carry, batch.tokens[:, part], batch.dt_ms[:, part], moving)
        heard.append(logits)
    return np.concatenate([np.asarray(part, np.float64) for part in heard], axis=1)


@cache
def _jitted(advance: Callable[..., Any], config: ModelConfig) -> Callable[..., Any]:
    return jax.jit(partial(advance, config), donate_argnums=1)


def _collect(score: Score, batches: Iterable[Batch]) -> Predictions:
    labels, logits, courses = [], [], []
    clock, events = Clock(), 0
    for batch in batches:
        real = np.flatnonzero(batch.weights)
        held = int(batch.lengths[real].sum())
        begun = time.perf_counter()
        scored, went = score(batch)
        clock.count(batch.tokens.shape, held, time.perf_counter() - begun)
        events += held
        labels.append(batch.targets[real].argmax(-1))
        logits.append(scored[real])
        courses += [went[row] for row in real] if went else []
    return Predictions(
        np.concatenate(labels),
        np.concatenate(logits),
        courses,
        events,
        clock.rate(events),
    )

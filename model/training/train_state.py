"""The learner: weights, their average and the optimiser's moments, moved by batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from saccade.model.classifier import Classifier, Variables
from saccade.model.config import ModelConfig
from saccade.model.training.gradient import Rows, make_gradient
from saccade.model.training.input_pipeline import Batch
from saccade.model.training.optimizer import correct, cross_entropy


class Learner(NamedTuple):
    """All that a training step changes.

    Attributes:
        variables: `params` and, with batch norm, `batch_stats`.
        averaged: The moving average of `params`: what is validated and saved.
        moments: The optimiser's state.
        step: Steps taken.
    """

    variables: Variables
    averaged: dict[str, Any]
    moments: Any
    step: Int[Array, ""]


class Tally(NamedTuple):
    """Sums over rows; tallies add up exactly however the rows were batched."""

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    rows: Float[Array, ""]
    events: Int[Array, ""]


Step = Callable[[Learner, Batch], tuple[Learner, Tally]]
Measure = Callable[[Variables, Batch], Tally]
Predict = Callable[[Variables, Array, Array, Array], Float[Array, "b c"]]


def init(variables: Variables, optimizer: optax.GradientTransformation) -> Learner:
    """Return a learner that begins with these variables."""
    params = variables["params"]
    return Learner(
        variables=dict(variables),
        averaged=jax.tree.map(jnp.copy, params),
        moments=optimizer.init(params),
        step=jnp.zeros((), jnp.int32),
    )


def make_step(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    label_smoothing: float,
    ema_decay: float,
    seed: int,
    mesh: Mesh,
) -> Step:
    """Return the compiled training step; it consumes the learner it is given."""
    key = jax.random.key(seed)
    take_gradient = make_gradient(classifier, label_smoothing, mesh)

    def step(learner: Learner, batch: Batch) -> tuple[Learner, Tally]:
        rows = Rows(*map(jnp.asarray, batch))
        dropout = jax.random.fold_in(key, learner.step)
        found = take_gradient(learner.variables, rows, dropout)
        params = learner.variables["params"]
        change, moments = optimizer.update(found.gradient, learner.moments, params)
        params = optax.apply_updates(params, change)
        averaged = _average(learner.averaged, params, learner.step, ema_decay)
        variables = {**learner.variables, **found.updates, "params": params}
        moved = Learner(variables, averaged, moments, learner.step + 1)
        return moved, _tally(found.loss, found.logits, rows)

    return jax.jit(step, donate_argnums=0)


@cache
def make_predict(config: ModelConfig) -> Predict:
    """Return the compiled function (variables, tokens, dt_ms, lengths) -> logits."""
    return jax.jit(partial(Classifier(config).apply, train=False))


@cache
def make_measure(config: ModelConfig) -> Measure:
    """Return the compiled function that tallies a batch, nothing dropped out."""
    predict = make_predict(config)

    def measure(variables: Variables, batch: Batch) -> Tally:
        rows = Rows(*map(jnp.asarray, batch))
        logits = predict(variables, rows.tokens, rows.dt_ms, rows.lengths)
        value = cross_entropy(logits, rows.targets, rows.weights)
        return _tally(value, logits, rows)

    return jax.jit(measure)


def evaluated(learner: Learner) -> Variables:
    """Return the variables to validate and to save: those with averaged weights."""
    return {**learner.variables, "params": learner.averaged}


def _average(
    averaged: dict[str, Any], params: dict[str, Any], step: Array, decay: float
) -> Any:
    """Move the average; early on it forgets faster, so that it leaves the start."""
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: kept * a + (1.0 - kept) * p, averaged, params)


def _tally(loss: Array, logits: Array, batch: Rows) -> Tally:
    rows = jnp.sum(batch.weights)
    return Tally(
        loss=loss * rows,
        correct=correct(logits, batch.targets, batch.weights),
        rows=rows,
        events=jnp.sum(batch.lengths * (batch.weights > 0)),
    )

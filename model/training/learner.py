"""The learner: weights, their average and the optimiser's moments, moved by batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from model.classifier import Classifier, Variables
from model.config import ModelConfig
from model.training.batches import Batch
from model.training.objective import correct, cross_entropy, smooth


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


class Rows(NamedTuple):
    """A `Batch` on the device, field by field."""

    tokens: Int[Array, "b l"]
    dt_ms: Float[Array, "b l"]
    lengths: Int[Array, " b"]
    targets: Float[Array, "b c"]
    weights: Float[Array, " b"]


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
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    label_smoothing: float,
    ema_decay: float,
    seed: int,
) -> Step:
    """Return the compiled training step; it consumes the learner it is given."""
    classifier = Classifier(config)
    key = jax.random.key(seed, impl="rbg")

    def loss(
        params: dict[str, Any], rest: dict[str, Any], batch: Rows, dropout: Array
    ) -> tuple[Array, tuple[Array, dict[str, Any]]]:
        logits, updates = classifier.apply(
            {"params": params, **rest},
            batch.tokens,
            batch.dt_ms,
            batch.lengths,
            train=True,
            rngs={"dropout": dropout},
            mutable=["batch_stats"],
        )
        smoothed = smooth(batch.targets, label_smoothing)
        return cross_entropy(logits, smoothed, batch.weights), (logits, dict(updates))

    def step(learner: Learner, batch: Batch) -> tuple[Learner, Tally]:
        rows = Rows(*map(jnp.asarray, batch))
        params = learner.variables["params"]
        rest = {k: v for k, v in learner.variables.items() if k != "params"}
        dropout = jax.random.fold_in(key, learner.step)
        (value, (logits, updates)), gradient = jax.value_and_grad(loss, has_aux=True)(
            params, rest, rows, dropout
        )
        change, moments = optimizer.update(gradient, learner.moments, params)
        params = optax.apply_updates(params, change)
        averaged = _average(learner.averaged, params, learner.step, ema_decay)
        moved = Learner(
            {"params": params, **rest, **updates}, averaged, moments, learner.step + 1
        )
        return moved, _tally(value, logits, rows)

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

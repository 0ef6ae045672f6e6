"""The train state, and the compiled steps that update it, score with it and predict."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from saccade.model.array_types import Array, Float, Int
from saccade.model.classifier import Classifier, Variables
from saccade.model.config import ModelConfig
from saccade.model.training.gradient import Rows, make_gradient
from saccade.model.training.input_pipeline import Batch
from saccade.model.training.optimizer import count_correct, cross_entropy


class TrainState(NamedTuple):
    """All that a training step changes.

    The order of the fields is part of the format of a run's saved state.

    Attributes:
        variables: `params` and, with batch norm, `batch_stats`.
        ema_params: Exponential moving average of `params`: validated and saved.
        opt_state: The optimizer's state.
        step: Steps taken.
    """

    variables: Variables
    ema_params: dict[str, Any]
    opt_state: Any
    step: Int[Array, ""]


class Tally(NamedTuple):
    """Sums over rows; tallies add up exactly however the rows were batched.

    Attributes:
        loss: Cross-entropy, nats.
        correct: Rows with the right class on top.
        rows: Rows, without those that only fill a batch.
        events: Their events.
    """

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    rows: Float[Array, ""]
    events: Int[Array, ""]


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Tally]]
EvalStep = Callable[[Variables, Batch], Tally]
Predict = Callable[[Variables, Array, Array, Array], Float[Array, "b c"]]


def create(variables: Variables, tx: optax.GradientTransformation) -> TrainState:
    """Return the state before the first step."""
    params = variables["params"]
    return TrainState(
        variables=dict(variables),
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=tx.init(params),
        step=jnp.zeros((), jnp.int32),
    )


def make_train_step(
    classifier: Classifier,
    tx: optax.GradientTransformation,
    label_smoothing: float,
    ema_decay: float,
    seed: int,
    mesh: Mesh,
) -> TrainStep:
    """Return the compiled training step; it donates the state that it is given.

    Args:
        classifier: The network, in the precision to train it in.
        tx: The optimizer.
        label_smoothing: See `optimizer.smooth_labels`.
        ema_decay: Of `TrainState.ema_params`.
        seed: Of dropout.
        mesh: Devices that share the rows of a batch.
    """
    key = jax.random.key(seed)
    take_gradient = make_gradient(classifier, label_smoothing, mesh)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Tally]:
        rows = Rows(*map(jnp.asarray, batch))
        dropout = jax.random.fold_in(key, state.step)
        result = take_gradient(state.variables, rows, dropout)
        params = state.variables["params"]
        updates, opt_state = tx.update(result.gradient, state.opt_state, params)
        params = optax.apply_updates(params, updates)
        ema_params = _average(state.ema_params, params, state.step, ema_decay)
        variables = {**state.variables, **result.batch_stats, "params": params}
        updated = TrainState(variables, ema_params, opt_state, state.step + 1)
        return updated, _tally(result.loss, result.logits, rows)

    return jax.jit(step, donate_argnums=0)


@cache
def make_predict(config: ModelConfig) -> Predict:
    """Return the compiled function (variables, tokens, dt_ms, lengths) -> logits."""
    return jax.jit(partial(Classifier(config).apply, train=False))


@cache
def make_eval_step(config: ModelConfig) -> EvalStep:
    """Return the compiled function that tallies a batch without dropout.

    A row shorter than a tick has no answer, and is not correct.
    """
    predict = make_predict(config)

    def eval_step(variables: Variables, batch: Batch) -> Tally:
        rows = Rows(*map(jnp.asarray, batch))
        logits = predict(variables, rows.tokens, rows.dt_ms, rows.lengths)
        value = cross_entropy(logits, rows.targets, rows.weights)
        answered = rows.weights * (rows.lengths >= config.tick_events)
        correct = count_correct(logits, rows.targets, answered)
        return _tally(value, logits, rows)._replace(correct=correct)

    return jax.jit(eval_step)


def eval_variables(state: TrainState) -> Variables:
    """Return the variables to validate and to save: those with averaged weights."""
    return {**state.variables, "params": state.ema_params}


def _average(
    ema_params: dict[str, Any], params: dict[str, Any], step: Array, decay: float
) -> Any:
    """Update the average, with a smaller decay early on: it forgets the start."""
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: kept * a + (1.0 - kept) * p, ema_params, params)


def _tally(loss: Array, logits: Array, batch: Rows) -> Tally:
    rows = jnp.sum(batch.weights)
    return Tally(
        loss=loss * rows,
        correct=count_correct(logits, batch.targets, batch.weights),
        rows=rows,
        events=jnp.sum(batch.lengths * (batch.weights > 0)),
    )

"""A plain training step, the baseline of `benchmarks.training`.

A direct implementation of the network of Schöne et al. 2024 (arXiv:2404.18508), for
`async` prenorm layer-norm configurations with `avgpool` and a readout by `pool`: each
event is embedded, normalised and projected on its own, one associative scan in
complex64 runs over all events, every state is kept and one in a stride is read, and JAX
derives the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from benchmarks.baseline import complex_pairs, dense, normalised, states
from saccade.model.array_types import Array
from saccade.model.config import ModelConfig
from saccade.model.training.gradient import Rows
from saccade.model.training.input_pipeline import Batch
from saccade.model.training.optimizer import cross_entropy

Keep = Callable[[Array], Array]
Plain = tuple[dict[str, Any], Any, Array]
"""Parameters, the optimiser's state and the number of steps taken."""


def make_plain_step(
    config: ModelConfig, optimizer: optax.GradientTransformation
) -> Callable[[Plain, Batch], tuple[Plain, Array]]:
    """Return the compiled training step; a step donates its first argument."""

    def step(plain: Plain, batch: Batch) -> tuple[Plain, Array]:
        params, moments, taken = plain
        rows = Rows(*map(jnp.asarray, batch))
        key = jax.random.fold_in(jax.random.key(0, impl="rbg"), taken)

        def loss(params: dict[str, Any]) -> Array:
            logits = score(config, params, rows.tokens, rows.dt_ms, key)
            return cross_entropy(logits, rows.targets, rows.weights)

        value, gradient = jax.value_and_grad(loss)(params)
        change, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, change), moments, taken + 1), value

    return jax.jit(step, donate_argnums=0)


def score(
    config: ModelConfig, params: dict[str, Any], tokens: Array, dt_ms: Array, key: Array
) -> Array:
    """Return the logits of whole sequences with dropout, (b, c)."""
    encoder, keep = params["encoder"], _dropout(key, config.dropout)
    x = jnp.asarray(encoder["encoder"]["embedding"])[tokens]
    for stage in range(config.num_stages):
        for place in range(config.num_layers_per_stage):
            layer = encoder[f"stages_{stage}"][f"SequenceLayer_{place}"]
            stride = config.pooling_stride if place == 0 else 1
            x, dt_ms = _layer(config, layer, x, dt_ms, stride, keep)
    return dense(params["decoder"], x.mean(axis=1))


def _layer(
    config: ModelConfig,
    layer: dict[str, Any],
    x: Array,
    dt_ms: Array,
    stride: int,
    keep: Keep,
) -> tuple[Array, Array]:
    ssm, u = layer["S5SSM_0"], normalised(layer, {}, x)
    after = jax.vmap(lambda u, dt_ms: states(config, ssm, u, dt_ms))(u, dt_ms)
    pooled, skip = (
        z.reshape(z.shape[0], -1, stride, z.shape[-1]).mean(axis=2) for z in (u, x)
    )
    y = (after[:, ::stride] @ complex_pairs(ssm["C"]).T).real + pooled * ssm["D"]
    y = y * nn.sigmoid(dense(layer["Dense_0"], keep(nn.gelu(y))))
    elapsed_ms = dt_ms.reshape(dt_ms.shape[0], -1, stride).sum(axis=2)
    return skip + keep(y), elapsed_ms


def _dropout(key: Array, rate: float) -> Keep:
    keys: Iterator[Array] = (jax.random.fold_in(key, place) for place in count())

    def keep(x: Array) -> Array:
        kept = jax.random.bernoulli(next(keys), 1.0 - rate, x.shape)
        return jnp.where(kept, x / (1.0 - rate), 0.0)

    return keep

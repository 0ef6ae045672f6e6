"""The baseline: windows of events, each from a zero state, as published.

A plain restatement of the computation of Schöne et al. 2024 (arXiv:2404.18508) for
their `async`, `timepool`, prenorm, layer-norm configurations: B is applied to every
event, and one associative scan in complex64 runs over the whole window. Nothing is
tabulated and nothing survives a window.
"""

from __future__ import annotations

from typing import Any, Final

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from model.config import ModelConfig

WINDOW_EVENTS: Final = 256
NORM_EPSILON: Final = 1e-6
POOL_EPSILON_MS: Final = 1e-6


def score_windows(
    config: ModelConfig,
    params: dict[str, Any],
    tokens: Int[Array, "w l"],
    dt_ms: Float[Array, "w l"],
) -> Float[Array, "w c"]:
    """Score windows one after another, each on its own.

    Args:
        config: `async`, `timepool` twice, prenorm, layer norm.
        params: The model's parameters.
        tokens: (w, l).
        dt_ms: Integration timesteps, (w, l), ms.
    """
    return jax.lax.map(lambda window: _score(config, params, *window), (tokens, dt_ms))


def _score(
    config: ModelConfig, params: dict[str, Any], tokens: Array, dt_ms: Array
) -> Array:
    encoder = params["encoder"]
    x = encoder["encoder"]["embedding"][tokens]
    for stage in range(config.num_stages):
        for place in range(config.num_layers_per_stage):
            layer = encoder[f"stages_{stage}"][f"SequenceLayer_{place}"]
            stride = config.pooling_stride if place == 0 else 1
            x, dt_ms = _layer(config, layer, x, dt_ms, stride)
    weights = dt_ms + POOL_EPSILON_MS
    mean = (weights[:, None] * x).sum(0) / dt_ms.sum()
    return mean @ params["decoder"]["kernel"] + params["decoder"]["bias"]


def _layer(
    config: ModelConfig, layer: dict[str, Any], x: Array, dt_ms: Array, stride: int
) -> tuple[Array, Array]:
    norm, ssm = layer["LayerNorm_0"], layer["S5SSM_0"]
    u = normalise(norm, x)
    after = states(config, ssm, u, dt_ms)[::stride]
    u, skip, dt_ms = _pooled(u, x, dt_ms, stride)
    y = (after @ complex_pairs(ssm["C"]).T).real
    y = 2.0 * y if config.conj_sym else y
    y = y + (u * ssm["D"] if ssm["D"].ndim == 1 else u @ ssm["D"].T)
    y = y * nn.sigmoid(dense(layer["Dense_0"], nn.gelu(y)))
    if "Dense_1" in layer:
        skip = dense(layer["Dense_1"], skip)
    return skip + y, dt_ms


def normalise(norm: dict[str, Any], x: Array) -> Array:
    """Apply a layer norm."""
    centred = x - x.mean(-1, keepdims=True)
    u = centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + NORM_EPSILON)
    return u * norm["scale"] + norm["bias"]


def states(config: ModelConfig, ssm: dict[str, Any], u: Array, dt_ms: Array) -> Array:
    """Return the state after every event, from zero, by one associative scan."""
    real = ssm["Lambda_re"]
    real = jnp.minimum(real, -1e-4) if config.clip_eigs else real
    Lambda = real + 1j * ssm["Lambda_im"]
    timescale = config.step_rescale * jnp.exp(ssm["log_step"][:, 0])
    gain = jnp.expm1(Lambda * timescale) / Lambda
    decay = jnp.exp(Lambda * timescale * dt_ms[:, None])
    drive = u @ (gain[:, None] * complex_pairs(ssm["B"])).T

    def compose(early: tuple[Array, Array], late: tuple[Array, Array]) -> Any:
        return early[0] * late[0], late[0] * early[1] + late[1]

    return jax.lax.associative_scan(compose, (decay, drive))[1]


def _pooled(
    u: Array, skip: Array, dt_ms: Array, stride: int
) -> tuple[Array, Array, Array]:
    if stride == 1:
        return u, skip, dt_ms
    grouped = dt_ms.reshape(-1, stride)
    shares = grouped + POOL_EPSILON_MS
    shares = (shares / shares.sum(-1, keepdims=True))[..., None]
    u, skip = ((shares * x.reshape(*grouped.shape, -1)).sum(1) for x in (u, skip))
    return u, skip, grouped.sum(-1)


def dense(weights: dict[str, Any], x: Array) -> Array:
    """Apply an affine map."""
    return x @ weights["kernel"] + weights["bias"]


def complex_pairs(pairs: Array) -> Array:
    """Return numbers whose last axis holds both parts."""
    return pairs[..., 0] + 1j * pairs[..., 1]

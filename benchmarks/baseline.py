"""The baseline: the published network over windows of events, each from a zero state.

A plain implementation of Schöne et al. 2024 (arXiv:2404.18508) for the `async`, prenorm
configurations: B is applied to every event, and one associative scan in complex64 runs
over the whole window. Nothing is tabulated, and no state is kept between windows.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from saccade.model.array_types import Array, Float, Int
from saccade.model.classifier import Variables
from saccade.model.config import ModelConfig
from saccade.model.upstream.recipes import recipe

NAMES: Final = ("dvs/small", "shd/medium", "ssc/medium")
CONFIGURATIONS: Final[dict[str, ModelConfig]] = {
    name: recipe(name).config for name in NAMES
}
"""The published configurations that are measured, with random weights."""

WINDOW_EVENTS: Final = 256
LAYER_NORM_EPSILON: Final = 1e-6
BATCH_NORM_EPSILON: Final = 1e-5
POOL_EPSILON_MS: Final = 1e-6


class _Inputs(NamedTuple):
    """The inputs of a layer: vectors (l, h) and their gaps (l,), ms."""

    x: Array
    dt_ms: Array


def score_windows(
    config: ModelConfig,
    variables: Variables,
    tokens: Int[Array, "w l"],
    dt_ms: Float[Array, "w l"],
) -> Float[Array, "w c"]:
    """Return the logits of windows, scored one after another, each on its own.

    Args:
        config: `async` and prenorm; pooling and readout by time or evenly.
        variables: The model's parameters and batch statistics.
        tokens: Windows of tokens, (w, l).
        dt_ms: Integration timesteps, (w, l), ms.
    """
    score = lambda window: _score(config, variables, *window)  # noqa: E731
    return jax.lax.map(score, (tokens, dt_ms))


def _score(
    config: ModelConfig, variables: Variables, tokens: Array, dt_ms: Array
) -> Array:
    params = variables["params"]
    statistics = variables.get("batch_stats", {}).get("encoder", {})
    inputs = _Inputs(params["encoder"]["encoder"]["embedding"][tokens], dt_ms)
    for stage in range(config.num_stages):
        for place in range(config.num_layers_per_stage):
            path = f"stages_{stage}", f"SequenceLayer_{place}"
            layer = params["encoder"][path[0]][path[1]]
            moments = statistics[path[0]][path[1]] if config.batchnorm else {}
            stride = config.pooling_stride if place == 0 else 1
            u = normalised(layer, moments, inputs.x)
            inputs = _layer(config, layer, u, inputs, stride)
    mean = _mean(config.classification_mode, inputs)
    return dense(params["decoder"], mean)


def _mean(rule: str, inputs: _Inputs) -> Array:
    if rule == "pool":
        return inputs.x.mean(0)
    weights = inputs.dt_ms + POOL_EPSILON_MS
    return (weights[:, None] * inputs.x).sum(0) / inputs.dt_ms.sum()


def normalised(layer: dict[str, Any], statistics: dict[str, Any], x: Array) -> Array:
    """Apply batch norm with the training set's statistics, or else layer norm."""
    if statistics:
        norm, past = layer["BatchNorm_0"], statistics["BatchNorm_0"]
        normal = (x - past["mean"]) * jax.lax.rsqrt(past["var"] + BATCH_NORM_EPSILON)
    else:
        norm = layer["LayerNorm_0"]
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
    return normal * norm["scale"] + norm["bias"]


def _layer(
    config: ModelConfig, layer: dict[str, Any], u: Array, inputs: _Inputs, stride: int
) -> _Inputs:
    ssm = layer["S5SSM_0"]
    after = states(config, ssm, u, inputs.dt_ms)[::stride]
    u, skip, dt_ms = _pooled(config.pooling_mode, u, inputs, stride)
    y = (after @ complex_pairs(ssm["C"]).T).real
    y = 2.0 * y if config.conj_sym else y
    y = y + (u * ssm["D"] if ssm["D"].ndim == 1 else u @ ssm["D"].T)
    y = y * nn.sigmoid(dense(layer["Dense_0"], nn.gelu(y)))
    if "Dense_1" in layer:
        skip = dense(layer["Dense_1"], skip)
    return _Inputs(skip + y, dt_ms)


def states(config: ModelConfig, ssm: dict[str, Any], u: Array, dt_ms: Array) -> Array:
    """Return the state after every event, (l, p), by one associative scan from zero."""
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
    rule: str, u: Array, inputs: _Inputs, stride: int
) -> tuple[Array, Array, Array]:
    if stride == 1:
        return u, *inputs
    grouped = inputs.dt_ms.reshape(-1, stride)
    timed = rule == "timepool"
    shares = grouped + POOL_EPSILON_MS if timed else jnp.ones_like(grouped)
    shares = (shares / shares.sum(-1, keepdims=True))[..., None]
    u, skip = ((shares * x.reshape(*grouped.shape, -1)).sum(1) for x in (u, inputs.x))
    return u, skip, grouped.sum(-1)


def dense(weights: dict[str, Any], x: Array) -> Array:
    """Apply an affine map."""
    return x @ weights["kernel"] + weights["bias"]


def complex_pairs(pairs: Array) -> Array:
    """Return complex numbers from pairs (real, imaginary) on the last axis."""
    return pairs[..., 0] + 1j * pairs[..., 1]

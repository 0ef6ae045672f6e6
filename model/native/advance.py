"""`streaming.advance` as one foreign call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from model.block import blocks
from model.config import ModelConfig
from model.layer_weights import LayerWeights
from model.native.call import MOVED
from model.native.packing import Packed
from model.native.readout import RULES
from model.native.registered import target
from model.native.sums import WEIGHTINGS
from model.network import Carry
from model.readout import Readout


def advance(
    config: ModelConfig,
    weights: Packed,
    carry: Carry,
    tokens: Int[Array, "s l"],
    dt_ms: Float[Array, "s l"],
    ticks: Int[Array, " s"],
) -> tuple[Carry, Float[Array, "s k c"]]:
    """Move many sessions by whole ticks; see `streaming.advance`."""
    rows = jnp.arange(tokens.shape[0], dtype=jnp.int32)
    return advance_rows(config, weights, carry, rows, tokens, dt_ms, ticks)


def advance_rows(
    config: ModelConfig,
    weights: Packed,
    pool: Carry,
    rows: Int[Array, " s"],
    tokens: Int[Array, "s l"],
    dt_ms: Float[Array, "s l"],
    ticks: Int[Array, " s"],
) -> tuple[Carry, Float[Array, "s k c"]]:
    """Move some rows of a pool of carries, in place if it is donated.

    Args:
        config: The model's configuration.
        weights: From `pack`.
        pool: Carries, leaves (n, ·).
        rows: The sessions' rows, (s,); no two that move are the same.
        tokens: As for `streaming.advance`, and the rest likewise.
        dt_ms: Likewise.
        ticks: Likewise.

    Returns:
        The pool, and the logits after each tick, (s, k, c).
    """
    rows, tokens, ticks = (jnp.asarray(x, jnp.int32) for x in (rows, tokens, ticks))
    dt_ms = jnp.asarray(dt_ms, jnp.float32)
    states = [*pool.ssm, *pool.readout[:MOVED]]
    half_life_ms = pool.readout.half_life_ms
    plan = _plan(config, weights, pool, tokens.shape)
    before = [plan, rows, tokens, dt_ms, ticks, weights.table, *weights.decoder]
    before += [leaf for layer in weights.layers for leaf in _leaves(layer)]
    sessions, events = tokens.shape
    logits = (sessions, events // config.tick_events, config.num_classes)
    results = [_shape(leaf.shape, leaf.dtype) for leaf in states]
    results.append(_shape(logits, jnp.float32))
    places = {len(before) + place: place for place in range(len(states))}
    call = jax.ffi.ffi_call(target(), results, input_output_aliases=places)
    *after, scores = call(*before, *states, half_life_ms)
    moved = zip(Readout._fields, after[-MOVED:], strict=False)  # no half-life
    readout = pool.readout._replace(**dict(moved))
    return Carry(tuple(after[:-MOVED]), readout), scores


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def _plan(
    config: ModelConfig, weights: Packed, pool: Carry, shape: tuple[int, ...]
) -> Array:
    """Return sizes and choices in the order of `call.Call` and `call.Layer`."""
    plan: list[Any] = [
        *shape,
        len(weights.layers),
        config.tick_events,
        WEIGHTINGS[config.pooling_mode],
        config.prenorm,
        config.batchnorm,
        weights.table.shape[0],
        config.num_classes,
        *RULES[config.classification_mode],
        config.discretization == "zoh",
        pool.readout.weight.shape[0],
    ]
    chain = zip(blocks(config), weights.layers, pool.ssm, strict=True)
    for place, (block, layer, state) in enumerate(chain):
        stage, within = divmod(place, config.num_layers_per_stage)
        entered = config.features(stage if within else stage - 1)
        inputs, outputs = layer.B.shape[0], layer.C.shape[1]
        full, widens = layer.D.ndim > 1, layer.widen is not None
        plan += [block.stride, inputs, layer.rates.real.shape[0], outputs, full, widens]
        plan += [entered, state.shape[-1], config.features(stage)]
    return jnp.asarray(plan, jnp.int32)


def _leaves(layer: LayerWeights) -> Iterator[Array]:
    nothing = jnp.zeros(1)
    yield from (*layer.rates, layer.B, layer.C, layer.D, *layer.gate, *layer.norm)
    yield from layer.widen or (nothing, nothing)

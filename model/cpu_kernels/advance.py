"""`streaming.advance` as one foreign call."""

from __future__ import annotations

from typing import Any, Final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from saccade.model.block import blocks
from saccade.model.config import ModelConfig
from saccade.model.cpu_kernels.call import MOVED
from saccade.model.cpu_kernels.handler import target
from saccade.model.cpu_kernels.packing import (
    PARTS,
    begins,
    filled,
    sizes,
)
from saccade.model.cpu_kernels.readout import RULES
from saccade.model.cpu_kernels.sums import WEIGHTINGS
from saccade.model.inference import Carry
from saccade.model.readout import Readout

_SINGLE: Final = {"complex64", "float32"}


def advance(
    config: ModelConfig,
    weights: Float[Array, " n"],
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
    weights: Float[Array, " n"],
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

    Raises:
        TypeError: The pool is in double precision.
    """
    rows, tokens, ticks = (jnp.asarray(x, jnp.int32) for x in (rows, tokens, ticks))
    dt_ms = jnp.asarray(dt_ms, jnp.float32)
    states = [*pool.ssm, *pool.readout[:MOVED]]
    half_life_ms = pool.readout.half_life_ms
    if wrong := {str(leaf.dtype) for leaf in (*states, half_life_ms)} - _SINGLE:
        raise TypeError(f"native code moves {_SINGLE}, not {wrong}: use XLA for these")
    plan = _plan(config, pool.readout.weight.size, tokens.shape)
    before = [plan, rows, tokens, dt_ms, ticks, weights]
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


def _plan(config: ModelConfig, rows: int, shape: tuple[int, ...]) -> Array:
    """Return sizes, choices and places in the order of `call.Call` and `call.Layer`."""
    table, kernel, bias, *parts = begins(config)
    layers = sizes(config)
    plan: list[Any] = [
        *shape,
        len(layers),
        config.tick_events,
        WEIGHTINGS[config.pooling_mode],
        config.prenorm,
        config.batchnorm,
        config.num_embeddings,
        config.num_classes,
        *RULES[config.classification_mode],
        config.discretization == "zoh",
        rows,
        *(table, kernel, bias),
    ]
    for place, (block, size) in enumerate(zip(blocks(config), layers, strict=True)):
        plan += [block.stride, *map(filled, size), *size]
        plan += parts[PARTS * place : PARTS * (place + 1)]
    return jnp.asarray(plan, jnp.int32)

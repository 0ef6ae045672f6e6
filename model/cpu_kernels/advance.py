"""`inference.advance` as one foreign call of the kernels."""

from __future__ import annotations

from typing import Any, Final

import jax
import jax.numpy as jnp

from saccade.model.array_types import Array, Float, Int
from saccade.model.config import ModelConfig
from saccade.model.cpu_kernels.call import MOVED
from saccade.model.cpu_kernels.handler import target
from saccade.model.cpu_kernels.packing import plan
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
    """Move many sessions by whole ticks; see `inference.advance`."""
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
    """Move some rows of a pool of carries, in place if the pool is donated.

    Args:
        config: The model's configuration.
        weights: From `pack`.
        pool: Carries, leaves (n, ·).
        rows: The sessions' rows, (s,); those that move are distinct.
        tokens: (s, k·R) for k ticks of R events.
        dt_ms: Integration timesteps, (s, k·R), ms.
        ticks: How many of its k ticks each session moves, (s,).

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
    sizes = plan(config, pool.readout.weight.size, *tokens.shape)
    before = [jnp.asarray(sizes, jnp.int32), rows, tokens, dt_ms, ticks, weights]
    results = _results(config, states, tokens.shape)
    places = {len(before) + place: place for place in range(len(states))}
    call = jax.ffi.ffi_call(target(), results, input_output_aliases=places)
    *after, scores = call(*before, *states, half_life_ms)
    moved = dict(zip(Readout._fields, after[-MOVED:], strict=False))  # no half-life
    return Carry(tuple(after[:-MOVED]), pool.readout._replace(**moved)), scores


def _results(
    config: ModelConfig, states: list[Array], shape: tuple[int, ...]
) -> list[jax.ShapeDtypeStruct]:
    """Return the shapes of a call's results: the states, and the logits."""
    sessions, events = shape
    logits = (sessions, events // config.tick_events, config.num_classes)
    moved = [_shape(leaf.shape, leaf.dtype) for leaf in states]
    return [*moved, _shape(logits, jnp.float32)]


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]

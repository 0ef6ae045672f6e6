"""`inference.advance` as one foreign call of the kernels."""

from __future__ import annotations

from typing import Final

import jax
import jax.numpy as jnp

from saccade.model.array_types import Array, Float, Int
from saccade.model.config import ModelConfig
from saccade.model.cpu_kernels.call import MOVED_POOL, POOL
from saccade.model.cpu_kernels.handler import target
from saccade.model.cpu_kernels.packing import plan, row_layout
from saccade.model.inference import Carry

_SINGLE: Final = {"complex64", "float32"}


def advance(
    config: ModelConfig,
    weights: Float[Array, " n"],
    carry: Carry,
    tokens: Int[Array, "s l"],
    dt_ms: Float[Array, "s l"],
    ticks: Int[Array, " s"],
) -> tuple[Carry, Float[Array, "s k c"]]:
    """Move many sessions by whole ticks; see `inference.advance`.

    Raises:
        TypeError: The carries are in double precision.
    """
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(carry)}
    if wrong := kinds - _SINGLE:
        raise TypeError(f"native code moves {_SINGLE}, not {wrong}: use XLA for these")
    layout = row_layout(config)
    rows = jnp.arange(tokens.shape[0], dtype=jnp.int32)
    pool = layout.to_rows(carry)
    moved, logits = advance_rows(config, weights, pool, rows, tokens, dt_ms, ticks)
    return layout.to_carry(moved), logits


def advance_rows(
    config: ModelConfig,
    weights: Float[Array, " n"],
    pool: Float[Array, "r w"],
    rows: Int[Array, " s"],
    tokens: Int[Array, "s l"],
    dt_ms: Float[Array, "s l"],
    ticks: Int[Array, " s"],
) -> tuple[Float[Array, "r w"], Float[Array, "s k c"]]:
    """Move some rows of a pool, in place if the pool is donated.

    Args:
        config: The model's configuration.
        weights: From `pack`.
        pool: The sessions' carries, in `row_layout`.
        rows: The sessions' rows, (s,); those that move are distinct.
        tokens: (s, k·R) for k ticks of R events.
        dt_ms: Integration timesteps, (s, k·R), ms.
        ticks: How many of its k ticks each session moves, (s,).

    Returns:
        The pool, and the logits after each tick, (s, k, c).

    Raises:
        ValueError: The pool's rows are not of this configuration.
    """
    width = row_layout(config).width
    if pool.dtype != jnp.float32 or pool.shape[1:] != (width,):
        found = f"{pool.dtype} {pool.shape}"
        raise ValueError(f"a pool is float32 (rows, {width}), not {found}")
    rows, tokens, ticks = (jnp.asarray(x, jnp.int32) for x in (rows, tokens, ticks))
    dt_ms = jnp.asarray(dt_ms, jnp.float32)
    sizes = jnp.asarray(plan(config, pool.shape[0], *tokens.shape), jnp.int32)
    sessions, events = tokens.shape
    scores = (sessions, events // config.tick_events, config.num_classes)
    results = [_shape(pool.shape), _shape(scores)]
    in_place = {POOL: MOVED_POOL}
    call = jax.ffi.ffi_call(target(), results, input_output_aliases=in_place)
    moved, logits = call(sizes, rows, tokens, dt_ms, ticks, weights, pool)
    return moved, logits


def _shape(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)  # type: ignore[no-untyped-call]

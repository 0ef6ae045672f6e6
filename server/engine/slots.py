"""The pool's arrays: one row of state a slot, and one row of scratch.

A pool is a pytree whose leaves have a leading axis of `slots + 1`. The last row
belongs to no session: rows that only fill a batch up to its bucket point there. (They
must not point at index -1, which would wrap to a row by accident of the pool's size.)
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy.typing as npt
from jaxtyping import Array, Float, Int

from saccade.server.engine.model_registry import Advance, PyTree

AnyArray: TypeAlias = Array | npt.NDArray[Any]
"""NumPy where a batch is packed, a tracer where the call is compiled."""


class PackedBatch(NamedTuple):
    """The events of one call, padded to a bucket.

    Attributes:
        rows: Which row of the pool each row of the batch moves.
        tokens: Events of each row, the oldest first.
        dt_ms: Integration timesteps of those events.
        ticks: By how many ticks each row moves; 0 for padding.
    """

    rows: Int[AnyArray, " s"]
    tokens: Int[AnyArray, "s l"]
    dt_ms: Float[AnyArray, "s l"]
    ticks: Int[AnyArray, " s"]


def make_pool(fresh: PyTree, slots: int) -> PyTree:
    """Return a pool whose `slots + 1` rows are all `fresh`."""

    def repeat(leaf: Array) -> Array:
        return jnp.repeat(jnp.asarray(leaf)[None], slots + 1, axis=0)

    return jax.tree.map(repeat, fresh)


def scratch_row(pool: PyTree) -> int:
    """Return the index of the row that no session owns."""
    return int(jax.tree.leaves(pool)[0].shape[0]) - 1


def insert(pool: PyTree, row: Int[Array, ""], carry: PyTree) -> PyTree:
    """Write one session's carry into a row."""
    return jax.tree.map(lambda leaf, value: leaf.at[row].set(value), pool, carry)


def extract(pool: PyTree, row: Int[Array, ""]) -> PyTree:
    """Read one session's carry out of a row."""
    return jax.tree.map(lambda leaf: leaf[row], pool)


def advance_rows(
    advance: Advance, weights: PyTree, pool: PyTree, batch: PackedBatch
) -> tuple[PyTree, Array]:
    """Move some rows of the pool and leave the rest as they are.

    Args:
        advance: The model's `Servable.advance`.
        weights: The model's weights.
        pool: All rows; donated by the compiled caller.
        batch: Which rows move, by how many ticks, over which events.

    Returns:
        The pool, and the logits `(s, k, c)` of the batch's rows after each tick.
    """
    rows, tokens, dt_ms, ticks = batch
    carry = jax.tree.map(lambda leaf: leaf[rows], pool)
    moved, logits = advance(weights, carry, tokens, dt_ms, ticks)

    def scatter(leaf: Array, before: Array, after: Array) -> Array:
        active = (ticks > 0).reshape((-1,) + (1,) * (before.ndim - 1))
        return leaf.at[rows].set(jnp.where(active, after, before))

    return jax.tree.map(scatter, pool, carry, moved), logits

"""The pool's arrays: one row of state a slot, and one row of scratch.

A pool is a pytree whose leaves have a leading axis of `slots + 1`. The last row
belongs to no session: rows that only fill a batch up to its bucket point there. (They
must not point at index -1, which would wrap to a row by accident of the pool's size.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias, overload

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from saccade.model.array_types import Array, Float, Int
from saccade.server.engine.model_registry import Advance, PyTree
from saccade.server.engine.scheduler import Bucket

AnyArray: TypeAlias = Any
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


def packed_size(bucket: Bucket, tick_events: int) -> int:
    """Return the int32 words of a batch in one array."""
    return bucket.rows * (2 + 2 * bucket.ticks * tick_events)


def unpack(words: Int[AnyArray, " n"], bucket: Bucket) -> PackedBatch:
    """Return the parts of a batch that came as one array.

    In order: rows, ticks, tokens, and the bits of dt_ms. On NumPy arrays the parts are
    views, through which a batch is packed.
    """
    size = bucket.rows
    rows, ticks, events = words[:size], words[size : 2 * size], words[2 * size :]
    half = len(events) // 2
    tokens, bits = events[:half], events[half:]
    if isinstance(bits, np.ndarray):
        dt_ms: Any = bits.view(np.float32)
    else:
        dt_ms = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return PackedBatch(rows, tokens.reshape(size, -1), dt_ms.reshape(size, -1), ticks)


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


def extract(pool: PyTree, rows: Int[Array, " n"]) -> dict[str, Array]:
    """Read rows of the pool: one array `(n, w)` for each type of number in it."""
    parts: dict[str, list[Array]] = {}
    for leaf in jax.tree.leaves(pool):
        flat = leaf[rows].reshape(len(rows), -1)
        parts.setdefault(str(leaf.dtype), []).append(flat)
    return {dtype: jnp.concatenate(each, axis=1) for dtype, each in parts.items()}


class RowLayout:
    """Where the leaves of a carry lie in the rows that `extract` returns."""

    def __init__(self, carry: PyTree) -> None:
        self.leaves: list[tuple[str, slice, tuple[int, ...]]] = []
        ends: dict[str, int] = {}
        for leaf in jax.tree.leaves(carry):
            dtype, begin = str(leaf.dtype), ends.get(str(leaf.dtype), 0)
            ends[dtype] = begin + prod(leaf.shape)
            self.leaves.append((dtype, slice(begin, ends[dtype]), leaf.shape))


class RowLeaves(Sequence[npt.NDArray[Any]]):
    """The arrays of one row, cut out of it when they are asked for.

    Args:
        layout: Where they lie.
        parts: The row's numbers by their type, each (w,).
    """

    def __init__(self, layout: RowLayout, parts: dict[str, npt.NDArray[Any]]) -> None:
        self._layout = layout
        self._parts = parts

    def __len__(self) -> int:
        return len(self._layout.leaves)

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[npt.NDArray[Any]]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        dtype, part, shape = self._layout.leaves[index]
        return self._parts[dtype][part].reshape(shape)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[k] for k in range(len(self)))


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

"""A session's carry as one row of float32 numbers, and a pool of such rows.

A pool is one array, (n, w): a session's row is read with one gather and written with
one scatter, in place where the pool is donated, whatever leaves a carry has. The leaves
lie side by side in the order in which JAX flattens the carry; a complex leaf is its
real parts, then its imaginary parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, Final, NamedTuple, TypeAlias, overload

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from saccade.model.array_types import Array, Float

PyTree: TypeAlias = Any
"""A carry: arrays nested in tuples and dicts."""

Move: TypeAlias = Callable[..., tuple[PyTree, Any]]
"""(weights, carry, tokens, dt_ms, ticks) -> carry, logits; see `inference.advance`."""

FLOAT32: Final = np.dtype(np.float32)
COMPLEX64: Final = np.dtype(np.complex64)


class Column(NamedTuple):
    """One leaf's numbers in a row.

    Attributes:
        begin: The first of them.
        shape: The leaf's shape.
        dtype: float32, or complex64, which takes two numbers each.
    """

    begin: int
    shape: tuple[int, ...]
    dtype: npt.DTypeLike

    @property
    def size(self) -> int:
        """Values in the leaf."""
        return prod(self.shape)

    @property
    def end(self) -> int:
        """The number after the last."""
        return self.begin + self.size * (2 if self.dtype == COMPLEX64 else 1)


class RowLayout:
    """The places of a carry's leaves in a row.

    Args:
        carry: One session's carry, of arrays or of their shapes.

    Attributes:
        columns: Each leaf's place, in order.
        width: float32 numbers in a row.

    Raises:
        TypeError: A leaf is neither float32 nor complex64.
    """

    def __init__(self, carry: PyTree) -> None:
        leaves, self._tree = jax.tree.flatten(carry)
        self.columns: list[Column] = []
        self.width = 0
        for leaf in leaves:
            if leaf.dtype not in {FLOAT32, COMPLEX64}:
                kinds = f"{FLOAT32} or {COMPLEX64}"
                raise TypeError(f"a pool keeps {kinds}; a leaf is {leaf.dtype}")
            self.columns.append(Column(self.width, leaf.shape, np.dtype(leaf.dtype)))
            self.width = self.columns[-1].end

    def to_rows(self, carry: PyTree) -> Float[Array, "*b w"]:
        """Return carries, leaves (..., ·), as rows."""
        parts: list[Array] = []
        for leaf, column in zip(jax.tree.leaves(carry), self.columns, strict=True):
            batch = leaf.shape[: leaf.ndim - len(column.shape)]
            flat = jnp.reshape(leaf, (*batch, column.size))
            complex_leaf = column.dtype == COMPLEX64
            parts += [flat.real, flat.imag] if complex_leaf else [flat]
        return jnp.concatenate(parts, axis=-1)

    def to_carry(self, rows: Float[Array, "*b w"]) -> PyTree:
        """Return rows as carries, leaves (..., ·); the inverse of `to_rows`."""
        batch, leaves = rows.shape[:-1], []
        for column in self.columns:
            leaf = rows[..., column.begin : column.end]
            if column.dtype == COMPLEX64:
                real, imag = leaf[..., : column.size], leaf[..., column.size :]
                leaf = jax.lax.complex(real, imag)
            leaves.append(leaf.reshape(*batch, *column.shape))
        return jax.tree.unflatten(self._tree, leaves)

    def fits(self, leaves: Sequence[npt.NDArray[Any]]) -> bool:
        """Return whether arrays have the shapes and types of a carry's leaves."""
        found = [(leaf.shape, leaf.dtype) for leaf in leaves]
        return found == [(column.shape, column.dtype) for column in self.columns]

    def to_row(self, leaves: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Return a carry's leaves, which must fit, as a row on the host."""
        row = np.empty(self.width, np.float32)
        for leaf, column in zip(leaves, self.columns, strict=True):
            middle = column.begin + column.size
            row[column.begin : middle] = leaf.real.ravel()
            if column.dtype == COMPLEX64:
                row[middle : column.end] = leaf.imag.ravel()
        return row

    def leaf(self, row: npt.NDArray[np.float32], index: int) -> npt.NDArray[Any]:
        """Return one leaf of a row on the host, in its shape and type."""
        column = self.columns[index]
        middle = column.begin + column.size
        if column.dtype != COMPLEX64:
            return row[column.begin : middle].reshape(column.shape)
        leaf = np.empty(column.size, np.complex64)
        leaf.real, leaf.imag = row[column.begin : middle], row[middle : column.end]
        return leaf.reshape(column.shape)


class RowLeaves(Sequence[npt.NDArray[Any]]):
    """The leaves of one row on the host, cut out of it when they are asked for."""

    def __init__(self, layout: RowLayout, row: npt.NDArray[np.float32]) -> None:
        self._layout = layout
        self._row = row

    def __len__(self) -> int:
        return len(self._layout.columns)

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[npt.NDArray[Any]]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        return self._layout.leaf(self._row, index)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[k] for k in range(len(self)))


def advance_rows(
    advance: Move,
    layout: RowLayout,
    weights: PyTree,
    pool: Float[Array, "n w"],
    *batch: Array,
) -> tuple[Float[Array, "n w"], Float[Array, "s k c"]]:
    """Move some rows of a pool, in place if it is donated; leave the rest bit for bit.

    Args:
        advance: Moves the sessions' carries.
        layout: Of the pool's rows.
        weights: The model's weights.
        pool: All rows.
        *batch: The sessions' rows, (s,), tokens, dt_ms and ticks; see
            `inference.advance`. Rows that move are distinct and in the pool; those of
            0 ticks are padding, and may have any number.

    Returns:
        The pool, and the logits after each tick, (s, k, c).
    """
    rows, tokens, dt_ms, ticks = batch
    read = pool.at[rows].get(mode="clip", wrap_negative_indices=False)
    before = layout.to_carry(read)
    after, logits = advance(weights, before, tokens, dt_ms, ticks)
    # A scatter of distinct rows needs no order; a row beyond the pool is dropped.
    beyond = pool.shape[0] + jnp.arange(rows.shape[0], dtype=rows.dtype)
    places = jnp.where(ticks > 0, rows, beyond)
    moved = pool.at[places].set(
        layout.to_rows(after),
        mode="drop",
        unique_indices=True,
        wrap_negative_indices=False,
    )
    return moved, logits

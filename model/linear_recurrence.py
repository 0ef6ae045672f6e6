"""The linear recurrence x[k] = decay[k]·x[k-1] + drive[k].

`linear_scan` takes a first state and works on real or complex numbers: inference and
the readout use it. `scan_from_zero` is for training: it starts at zero and brings its
own gradient.

On a CPU `scan_from_zero` cuts a sequence of g steps into about √g blocks, runs all
blocks at once from zero, then runs from block to block. That is 2·√g short steps over
wide rows in place of g steps over narrow ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from saccade.model.array_types import Array
from saccade.model.split_complex import SplitComplex, add, conjugate, multiply

Numbers: TypeAlias = Any
"""A real array, or a `SplitComplex`."""

Multiply: TypeAlias = Callable[[Numbers, Numbers], Numbers]
"""`jnp.multiply`, or `split_complex.multiply`."""


def linear_scan(
    state: Numbers, decay: Numbers, drive: Numbers, times: Multiply
) -> Numbers:
    """Return every x[k] = decay[k]·x[k-1] + drive[k], from x[-1] = state.

    A CPU runs step by step, which is a small program and the least arithmetic. An
    accelerator, where each step of a loop is expensive, runs an associative scan.

    Args:
        state: (..., p).
        decay: (..., g, p), or (..., g, 1).
        drive: (..., g, p).
        times: Multiplies two `Numbers`.

    Returns:
        (..., g, p).
    """
    if jax.tree.leaves(drive)[0].shape[-2] == 1:
        return _plus(times(decay, _unsqueezed(state)), drive)

    def sequential(state: Numbers, decay: Numbers, drive: Numbers) -> Numbers:
        return sequential_scan(state, decay, drive, times)

    def associative(state: Numbers, decay: Numbers, drive: Numbers) -> Numbers:
        return associative_scan(state, decay, drive, times)

    return jax.lax.platform_dependent(
        state, decay, drive, cpu=sequential, default=associative
    )


def complex_scan(
    state: SplitComplex, decay: SplitComplex, drive: SplitComplex
) -> SplitComplex:
    """Run `linear_scan` over complex numbers."""
    return SplitComplex(*linear_scan(state, decay, drive, multiply))


def sequential_scan(
    state: Numbers, decay: Numbers, drive: Numbers, times: Multiply
) -> Numbers:
    """Run step by step; arguments and result as for `linear_scan`."""

    def move(x: Numbers, row: tuple[Numbers, Numbers]) -> tuple[Numbers, Numbers]:
        x = _plus(times(row[0], x), row[1])
        return x, x

    rows = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), (decay, drive))
    _, after = jax.lax.scan(move, state, rows)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -2), after)


def associative_scan(
    state: Numbers, decay: Numbers, drive: Numbers, times: Multiply
) -> Numbers:
    """Run as a tree of depth log g; arguments and result as for `linear_scan`."""

    def compose(early: Numbers, late: Numbers) -> Numbers:
        return times(early[0], late[0]), _plus(times(late[0], early[1]), late[1])

    def head(leaf: jax.Array) -> jax.Array:
        return leaf[..., :1, :]

    first = _plus(
        times(jax.tree.map(head, decay), _unsqueezed(state)), jax.tree.map(head, drive)
    )
    drive = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b[..., 1:, :]], axis=-2), first, drive
    )
    return jax.lax.associative_scan(compose, (decay, drive), axis=-2)[1]


def _plus(a: Numbers, b: Numbers) -> Numbers:
    return jax.tree.map(jnp.add, a, b)


def _unsqueezed(state: Numbers) -> Numbers:
    return jax.tree.map(lambda leaf: leaf[..., None, :], state)


@jax.custom_vjp
def scan_from_zero(decay: SplitComplex, drive: SplitComplex) -> SplitComplex:
    """Return every x[k] = decay[k]·x[k-1] + drive[k], from x[-1] = 0.

    The gradient of a linear recurrence is a linear recurrence backwards in time. It
    needs the states, which are kept, and none of the values they were computed from.

    Args:
        decay: (..., g, p), absolute values at most 1.
        drive: (..., g, p).
    """
    after: SplitComplex = jax.lax.platform_dependent(
        decay, drive, cpu=blocked_scan_from_zero, default=associative_scan_from_zero
    )
    return after


def associative_scan_from_zero(
    decay: SplitComplex, drive: SplitComplex
) -> SplitComplex:
    """Run as a tree; arguments and result as for `scan_from_zero`."""
    zero = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[..., 0, :]), drive)
    after: SplitComplex = associative_scan(zero, decay, drive, multiply)
    return after


def blocked_scan_from_zero(decay: SplitComplex, drive: SplitComplex) -> SplitComplex:
    """Run block by block; arguments and result as for `scan_from_zero`."""
    length = drive.real.shape[-2]
    size = max(math.isqrt(length), 1)
    rows = jax.tree.map(lambda leaf: _cut(leaf, size), (decay, drive))
    inside, decayed = _scan_rows(*rows)
    ends = jax.tree.map(lambda leaf: jnp.moveaxis(leaf[-1], -2, 0), (decayed, inside))
    carried = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -2), _before_each(*ends))
    after = add(inside, multiply(decayed, carried))
    return SplitComplex(_joined(after.real, length), _joined(after.imag, length))


def shift_by_one(z: SplitComplex) -> SplitComplex:
    """Move every step's value to the next step, (..., g, p); the first becomes 0."""

    def shift(leaf: Array) -> Array:
        return jnp.pad(leaf[..., :-1, :], [(0, 0)] * (leaf.ndim - 2) + [(1, 0), (0, 0)])

    return SplitComplex(shift(z.real), shift(z.imag))


def _scan_rows(
    decay: SplitComplex, drive: SplitComplex
) -> tuple[SplitComplex, SplitComplex]:
    """Run along the first axis from zero; return states and cumulative decays."""

    def move(
        held: tuple[SplitComplex, SplitComplex], row: tuple[SplitComplex, SplitComplex]
    ) -> tuple[tuple[SplitComplex, SplitComplex], tuple[SplitComplex, SplitComplex]]:
        x = add(multiply(row[0], held[0]), row[1])
        after = (x, multiply(row[0], held[1]))
        return after, after

    zero = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), drive)
    one = SplitComplex(jnp.ones_like(zero.real), zero.imag)
    states, decayed = jax.lax.scan(move, (zero, one), (decay, drive))[1]
    return states, decayed


def _before_each(decay: SplitComplex, drive: SplitComplex) -> SplitComplex:
    """Run along the first axis from zero; return the states before each step."""

    def move(
        x: SplitComplex, row: tuple[SplitComplex, SplitComplex]
    ) -> tuple[SplitComplex, SplitComplex]:
        return add(multiply(row[0], x), row[1]), x

    zero = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), drive)
    return jax.lax.scan(move, zero, (decay, drive))[1]


def _cut(leaf: Array, size: int) -> Array:
    """Cut (..., g, p) into blocks, place in the block first: (size, ..., blocks, p)."""
    spare = -leaf.shape[-2] % size
    widths = [(0, 0)] * (leaf.ndim - 2) + [(0, spare), (0, 0)]
    leaf = jnp.pad(leaf, widths)
    shape = (*leaf.shape[:-2], -1, size, leaf.shape[-1])
    return jnp.moveaxis(leaf.reshape(shape), -2, 0)


def _joined(leaf: Array, length: int) -> Array:
    """Undo `_cut`."""
    leaf = jnp.moveaxis(leaf, 0, -2)
    return leaf.reshape(*leaf.shape[:-3], -1, leaf.shape[-1])[..., :length, :]


def _forward(
    decay: SplitComplex, drive: SplitComplex
) -> tuple[SplitComplex, tuple[SplitComplex, SplitComplex]]:
    after = scan_from_zero(decay, drive)
    return after, (decay, after)


def _backward(
    kept: tuple[SplitComplex, SplitComplex], cotangent: SplitComplex
) -> tuple[SplitComplex, SplitComplex]:
    decay, after = kept

    def backwards(z: SplitComplex) -> SplitComplex:
        return SplitComplex(jnp.flip(z.real, axis=-2), jnp.flip(z.imag, axis=-2))

    decay = shift_by_one(backwards(conjugate(decay)))
    drive = backwards(scan_from_zero(decay, backwards(cotangent)))
    return multiply(drive, conjugate(shift_by_one(after))), drive


scan_from_zero.defvjp(_forward, _backward)

"""The linear recurrence x[k] = decay[k]·x[k-1] + drive[k], real or complex.

How two numbers are multiplied is an argument: `jnp.multiply`, or `planes.times`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from saccade.model import split_complex
from saccade.model.split_complex import SplitComplex

Numbers: TypeAlias = Any
"""A real array, or `Planes`."""

Times: TypeAlias = Callable[[Numbers, Numbers], Numbers]


def run(state: Numbers, decay: Numbers, drive: Numbers, times: Times) -> Numbers:
    """Return every x[k] = decay[k]·x[k-1] + drive[k], from x[-1] = state.

    A CPU goes step by step: it has no lanes to spare, and the program is small. An
    accelerator pays dearly for each step of a loop, so there it is a tree.

    Args:
        state: (..., p).
        decay: (..., g, p), or (..., g, 1).
        drive: (..., g, p).
        times: Multiplies two of these.

    Returns:
        (..., g, p).
    """
    if jax.tree.leaves(drive)[0].shape[-2] == 1:
        return _plus(times(decay, _unsqueezed(state)), drive)

    def sequential(state: Numbers, decay: Numbers, drive: Numbers) -> Numbers:
        return run_sequential(state, decay, drive, times)

    def associative(state: Numbers, decay: Numbers, drive: Numbers) -> Numbers:
        return run_associative(state, decay, drive, times)

    return jax.lax.platform_dependent(
        state, decay, drive, cpu=sequential, default=associative
    )


def run_planes(
    state: SplitComplex, decay: SplitComplex, drive: SplitComplex
) -> SplitComplex:
    """Run over complex numbers; see `run`."""
    return SplitComplex(*run(state, decay, drive, split_complex.times))


def run_sequential(
    state: Numbers, decay: Numbers, drive: Numbers, times: Times
) -> Numbers:
    """Run step by step; see `run`."""

    def move(x: Numbers, row: tuple[Numbers, Numbers]) -> tuple[Numbers, Numbers]:
        x = _plus(times(row[0], x), row[1])
        return x, x

    rows = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), (decay, drive))
    _, after = jax.lax.scan(move, state, rows)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -2), after)


def run_associative(
    state: Numbers, decay: Numbers, drive: Numbers, times: Times
) -> Numbers:
    """Run as a tree of depth log g; see `run`."""

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


# >>> merged from model.long_recurrence
# >>> """The recurrence x[k] = decay[k]·x[k-1] + drive[k] over whole sequences, for training.
# >>>
# >>> A CPU cuts a sequence of g in about √g blocks, which all run at once from zero; what
# >>> each is left with then runs from block to block, and decays into what follows. That is
# >>> 2·√g short steps over wide rows in place of g steps over narrow ones.
# >>>
# >>> The gradient of a linear recurrence is one too, backwards in time, and is written out:
# >>> it needs the states, which are there, and nothing of how they came about.
# >>> """


@jax.custom_vjp
def run_from_zero(decay: SplitComplex, drive: SplitComplex) -> SplitComplex:
    """Return every x[k] = decay[k]·x[k-1] + drive[k], from x[-1] = 0.

    Args:
        decay: (..., g, p), no longer than 1.
        drive: (..., g, p).
    """
    after: SplitComplex = jax.lax.platform_dependent(
        decay, drive, cpu=run_in_blocks, default=run_as_tree
    )
    return after


def run_as_tree(decay: SplitComplex, drive: SplitComplex) -> SplitComplex:
    """Run as a tree; see `run_from_zero`."""
    zero = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[..., 0, :]), drive)
    after: SplitComplex = run_associative(zero, decay, drive, split_complex.times)
    return after


def run_in_blocks(decay: SplitComplex, drive: SplitComplex) -> SplitComplex:
    """Run block by block; see `run_from_zero`."""
    length = drive.real.shape[-2]
    size = max(math.isqrt(length), 1)
    rows = jax.tree.map(lambda leaf: _cut(leaf, size), (decay, drive))
    inside, faded = _run_rows(*rows)
    ends = jax.tree.map(lambda leaf: jnp.moveaxis(leaf[-1], -2, 0), (faded, inside))
    carried = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -2), _before_each(*ends))
    after = split_complex.plus(inside, split_complex.times(faded, carried))
    return SplitComplex(_joined(after.real, length), _joined(after.imag, length))


def one_later(z: SplitComplex) -> SplitComplex:
    """Return each place what the one before it holds; the first holds 0."""

    def shift(leaf: Array) -> Array:
        return jnp.pad(leaf[..., :-1, :], [(0, 0)] * (leaf.ndim - 2) + [(1, 0), (0, 0)])

    return SplitComplex(shift(z.real), shift(z.imag))


def _run_rows(
    decay: SplitComplex, drive: SplitComplex
) -> tuple[SplitComplex, SplitComplex]:
    """Run along the first axis from zero; return states, and what is left of a 1."""

    def move(
        held: tuple[SplitComplex, SplitComplex], row: tuple[SplitComplex, SplitComplex]
    ) -> tuple[tuple[SplitComplex, SplitComplex], tuple[SplitComplex, SplitComplex]]:
        x = split_complex.plus(split_complex.times(row[0], held[0]), row[1])
        after = (x, split_complex.times(row[0], held[1]))
        return after, after

    zero = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), drive)
    one = SplitComplex(jnp.ones_like(zero.real), zero.imag)
    states, faded = jax.lax.scan(move, (zero, one), (decay, drive))[1]
    return states, faded


def _before_each(decay: SplitComplex, drive: SplitComplex) -> SplitComplex:
    """Run along the first axis from zero; return the states before each step."""

    def move(
        x: SplitComplex, row: tuple[SplitComplex, SplitComplex]
    ) -> tuple[SplitComplex, SplitComplex]:
        return split_complex.plus(split_complex.times(row[0], x), row[1]), x

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
    after = run_from_zero(decay, drive)
    return after, (decay, after)


def _backward(
    kept: tuple[SplitComplex, SplitComplex], wanted: SplitComplex
) -> tuple[SplitComplex, SplitComplex]:
    decay, after = kept

    def backwards(z: SplitComplex) -> SplitComplex:
        return SplitComplex(jnp.flip(z.real, axis=-2), jnp.flip(z.imag, axis=-2))

    fading = one_later(backwards(split_complex.conjugate(decay)))
    drive = backwards(run_from_zero(fading, backwards(wanted)))
    return split_complex.times(drive, split_complex.conjugate(one_later(after))), drive


run_from_zero.defvjp(_forward, _backward)

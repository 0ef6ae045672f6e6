"""The recurrence x[k] = decay[k]·x[k-1] + drive[k] over whole sequences, for training.

A CPU cuts a sequence of g in about √g blocks, which all run at once from zero; what
each is left with then runs from block to block, and decays into what follows. That is
2·√g short steps over wide rows in place of g steps over narrow ones.

The gradient of a linear recurrence is one too, backwards in time, and is written out:
it needs the states, which are there, and nothing of how they came about.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from saccade.model import planes, recurrence
from saccade.model.planes import Planes


@jax.custom_vjp
def run_from_zero(decay: Planes, drive: Planes) -> Planes:
    """Return every x[k] = decay[k]·x[k-1] + drive[k], from x[-1] = 0.

    Args:
        decay: (..., g, p), no longer than 1.
        drive: (..., g, p).
    """
    after: Planes = jax.lax.platform_dependent(
        decay, drive, cpu=run_in_blocks, default=run_as_tree
    )
    return after


def run_as_tree(decay: Planes, drive: Planes) -> Planes:
    """Run as a tree; see `run_from_zero`."""
    zero = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[..., 0, :]), drive)
    after: Planes = recurrence.run_associative(zero, decay, drive, planes.times)
    return after


def run_in_blocks(decay: Planes, drive: Planes) -> Planes:
    """Run block by block; see `run_from_zero`."""
    length = drive.real.shape[-2]
    size = max(math.isqrt(length), 1)
    rows = jax.tree.map(lambda leaf: _cut(leaf, size), (decay, drive))
    inside, faded = _run_rows(*rows)
    ends = jax.tree.map(lambda leaf: jnp.moveaxis(leaf[-1], -2, 0), (faded, inside))
    carried = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -2), _before_each(*ends))
    after = planes.plus(inside, planes.times(faded, carried))
    return Planes(_joined(after.real, length), _joined(after.imag, length))


def one_later(z: Planes) -> Planes:
    """Return each place what the one before it holds; the first holds 0."""

    def shift(leaf: Array) -> Array:
        return jnp.pad(leaf[..., :-1, :], [(0, 0)] * (leaf.ndim - 2) + [(1, 0), (0, 0)])

    return Planes(shift(z.real), shift(z.imag))


def _run_rows(decay: Planes, drive: Planes) -> tuple[Planes, Planes]:
    """Run along the first axis from zero; return states, and what is left of a 1."""

    def move(
        held: tuple[Planes, Planes], row: tuple[Planes, Planes]
    ) -> tuple[tuple[Planes, Planes], tuple[Planes, Planes]]:
        x = planes.plus(planes.times(row[0], held[0]), row[1])
        after = (x, planes.times(row[0], held[1]))
        return after, after

    zero = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), drive)
    one = Planes(jnp.ones_like(zero.real), zero.imag)
    states, faded = jax.lax.scan(move, (zero, one), (decay, drive))[1]
    return states, faded


def _before_each(decay: Planes, drive: Planes) -> Planes:
    """Run along the first axis from zero; return the states before each step."""

    def move(x: Planes, row: tuple[Planes, Planes]) -> tuple[Planes, Planes]:
        return planes.plus(planes.times(row[0], x), row[1]), x

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


def _forward(decay: Planes, drive: Planes) -> tuple[Planes, tuple[Planes, Planes]]:
    after = run_from_zero(decay, drive)
    return after, (decay, after)


def _backward(kept: tuple[Planes, Planes], wanted: Planes) -> tuple[Planes, Planes]:
    decay, after = kept

    def backwards(z: Planes) -> Planes:
        return Planes(jnp.flip(z.real, axis=-2), jnp.flip(z.imag, axis=-2))

    fading = one_later(backwards(planes.conjugate(decay)))
    drive = backwards(run_from_zero(fading, backwards(wanted)))
    return planes.times(drive, planes.conjugate(one_later(after))), drive


run_from_zero.defvjp(_forward, _backward)

"""The linear recurrence x[k] = decay[k]·x[k-1] + drive[k], real or complex.

How two numbers are multiplied is an argument: `jnp.multiply`, or `planes.times`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from saccade.model import planes
from saccade.model.planes import Planes

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


def run_planes(state: Planes, decay: Planes, drive: Planes) -> Planes:
    """Run over complex numbers; see `run`."""
    return Planes(*run(state, decay, drive, planes.times))


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

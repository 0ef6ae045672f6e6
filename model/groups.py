"""Tokens in stride groups: what a layer is given, and what it keeps of an open one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from saccade.model.planes import Planes


class Projected(NamedTuple):
    """What a layer makes of an input before it looks at time.

    Attributes:
        drive: What enters the states, (..., p).
        feed: u, which D passes straight on, (..., i).
        skip: The residual branch, (..., i).
    """

    drive: Planes
    feed: Float[Array, "*b i"]
    skip: Float[Array, "*b i"]


class Pooled(NamedTuple):
    """What is left of a stride group's `feed` and `skip`: their weighted means."""

    feed: Float[Array, "*b i"]
    skip: Float[Array, "*b i"]


class Grouped(NamedTuple):
    """Inputs in stride groups.

    Attributes:
        items: What stands for the tokens, by place in the group, leaves (n, ..., g)
            and whatever axes `project` wants.
        project: Some items -> what the layer makes of them.
        dt_ms: Integration timesteps, (..., g, n), ms.
    """

    items: Any
    project: Callable[[Any], Projected]
    dt_ms: Float[Array, "*b g n"]


class Members(NamedTuple):
    """The tokens of stride groups as they are summed.

    Attributes:
        items: As in `Grouped`.
        gaps: Integration timesteps, (n, ..., g, 1), ms.
        shares: Weights in the group's mean, likewise; they add up to 1.
    """

    items: Any
    gaps: Float[Array, "..."]
    shares: Float[Array, "..."]


class OpenGroup(NamedTuple):
    """The tokens of a stride group that is not complete yet, summed.

    Attributes:
        held: Tokens so far.
        elapsed_ms: Their gaps' sum.
        first: The state after the first of them, (p,).
        feed: Weighted sum of `Projected.feed`, (h,); `skip` likewise.
        weight: Sum of the weights.
    """

    held: Int[Array, ""]
    elapsed_ms: Float[Array, ""]
    first: Planes
    feed: Float[Array, " h"]
    skip: Float[Array, " h"]
    weight: Float[Array, ""]


def rows(table: Projected, tokens: Int[Array, "*b"]) -> Projected:
    """Read some tokens' rows of the table."""
    read: Projected = jax.tree.map(lambda leaf: leaf[tokens], table)
    return read


def grouped(projected: Projected, dt_ms: Float[Array, "*b l"], stride: int) -> Grouped:
    """Cut a sequence (..., l, ·) into stride groups, l a multiple of stride."""
    gaps = dt_ms.reshape(*dt_ms.shape[:-1], -1, stride)

    def cut(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(*gaps.shape, x.shape[-1]), -2, 0)

    return Grouped(jax.tree.map(cut, projected), _as_they_are, gaps)


def _as_they_are(projected: Projected) -> Projected:
    return projected

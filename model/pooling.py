"""Event pooling: each stride group of consecutive tokens becomes one token.

A pooling weighs each token of a group; the pooled value is the weighted mean, which
`block` computes. A weight depends only on the token's own gap and place, so that a
stream can accumulate a group token by token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from saccade.model.array_types import Array, Float, Int
from saccade.model.config import PoolingName
from saccade.model.split_complex import SplitComplex

EPSILON_MS: Final = 1e-6
"""Keeps a group of simultaneous events from having no weight at all."""

Weighting: TypeAlias = Callable[
    [Float[Array, "..."], Int[Array, "..."]], Float[Array, "..."]
]
"""(dt_ms, position in the group) -> weight, broadcast over any axes."""


def first(
    dt_ms: Float[Array, "..."], position: Int[Array, "..."]
) -> Float[Array, "..."]:
    """Weigh the group's first token alone: the reference's mode `last`."""
    return jnp.where(position == 0, jnp.ones_like(dt_ms), 0.0)


def even(
    dt_ms: Float[Array, "..."], position: Int[Array, "..."]
) -> Float[Array, "..."]:
    """Weigh all tokens equally: mode `avgpool`."""
    return jnp.ones_like(dt_ms)


def elapsed(
    dt_ms: Float[Array, "..."], position: Int[Array, "..."]
) -> Float[Array, "..."]:
    """Weigh each token by its integration timestep: mode `timepool`."""
    return dt_ms + EPSILON_MS


POOLINGS: Final[dict[PoolingName, Weighting]] = {
    "last": first,
    "avgpool": even,
    "timepool": elapsed,
}


class Projected(NamedTuple):
    """A layer's projections of an input, all that does not depend on time.

    Attributes:
        drive: The input's contribution to the states, (..., p).
        feed: u, the input of the feedthrough D, (..., i).
        skip: The residual branch, (..., i).
    """

    drive: SplitComplex
    feed: Float[Array, "*b i"]
    skip: Float[Array, "*b i"]


class Pooled(NamedTuple):
    """A stride group's weighted means of `Projected.feed` and `Projected.skip`."""

    feed: Float[Array, "*b i"]
    skip: Float[Array, "*b i"]


class Grouped(NamedTuple):
    """A layer's inputs in stride groups.

    Attributes:
        items: The tokens or their projections, by place in the group, leaves
            (n, ..., g) and any further axes that `project` takes.
        project: Items -> their projections by the layer.
        dt_ms: Integration timesteps, (..., g, n), ms.
    """

    items: Any
    project: Callable[[Any], Projected]
    dt_ms: Float[Array, "*b g n"]


class GroupTokens(NamedTuple):
    """The tokens of stride groups, by place in the group, ready to be summed.

    Attributes:
        items: As in `Grouped`.
        gaps: Integration timesteps, (n, ..., g, 1), ms.
        shares: Weights in the group's mean, (n, ..., g, 1); a group's add up to 1.
    """

    items: Any
    gaps: Float[Array, "..."]
    shares: Float[Array, "..."]


class OpenGroup(NamedTuple):
    """The sums over a stride group that is not complete yet.

    Attributes:
        held: Tokens so far.
        elapsed_ms: Sum of their gaps.
        first: The state after the first of them, (p,).
        feed: Weighted sum of `Projected.feed`, (h,).
        skip: Weighted sum of `Projected.skip`, (h,).
        weight: Sum of the weights.
    """

    held: Int[Array, ""]
    elapsed_ms: Float[Array, ""]
    first: SplitComplex
    feed: Float[Array, " h"]
    skip: Float[Array, " h"]
    weight: Float[Array, ""]


def rows(table: Projected, tokens: Int[Array, "*b"]) -> Projected:
    """Return the tokens' rows of a table of projections."""
    read: Projected = jax.tree.map(lambda leaf: leaf[tokens], table)
    return read


def grouped(projected: Projected, dt_ms: Float[Array, "*b l"], stride: int) -> Grouped:
    """Cut a sequence (..., l, ·) into stride groups, l a multiple of stride."""
    gaps = dt_ms.reshape(*dt_ms.shape[:-1], -1, stride)

    def cut(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(*gaps.shape, x.shape[-1]), -2, 0)

    return Grouped(jax.tree.map(cut, projected), _already_projected, gaps)


def _already_projected(items: Projected) -> Projected:
    return items

"""Event pooling: each group of `stride` consecutive tokens becomes one.

A pooling is a rule for the weight of each token in its group; the pooled value is the
weighted mean, which `model.block` takes. A weight depends only on the token's own gap
and place, so that a stream can accumulate a group token by token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

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
    """Keep the group's first token: what the reference's mode `last` does."""
    return jnp.where(position == 0, jnp.ones_like(dt_ms), 0.0)


def even(
    dt_ms: Float[Array, "..."], position: Int[Array, "..."]
) -> Float[Array, "..."]:
    """Weigh all tokens alike: mode `avgpool`."""
    return jnp.ones_like(dt_ms)


def elapsed(
    dt_ms: Float[Array, "..."], position: Int[Array, "..."]
) -> Float[Array, "..."]:
    """Weigh each token by its integration timestep: mode `timepool`."""
    return dt_ms + EPSILON_MS


WEIGHTINGS: Final[dict[str, Weighting]] = {
    "last": first,
    "avgpool": even,
    "timepool": elapsed,
}


# >>> merged from model.groups
# >>> """Tokens in stride groups: what a layer is given, and what it keeps of an open one."""


class Projected(NamedTuple):
    """What a layer makes of an input before it looks at time.

    Attributes:
        drive: What enters the states, (..., p).
        feed: u, which D passes straight on, (..., i).
        skip: The residual branch, (..., i).
    """

    drive: SplitComplex
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


class GroupTokens(NamedTuple):
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
    first: SplitComplex
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

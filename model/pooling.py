"""Event pooling: each group of `stride` consecutive tokens becomes one.

A pooling is a rule for the weight of each token in its group; the pooled value is the
weighted mean, which `model.block` takes. A weight depends only on the token's own gap
and place, so that a stream can accumulate a group token by token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

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

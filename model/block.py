"""One SSM block as plain functions: normalise, project, recur, mix, add the skip.

A block first projects each input on its own (`project`), and only then looks at time.
What it projects depends on the input alone, so for the first block a table of all
tokens' projections can stand in for the embedding.

Only one state in a stride group is ever read: the one after the group's first token.
So a group is summed up first, and the recurrence proper runs from group to group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from model import planes, recurrence
from model.config import ModelConfig
from model.discretization import DISCRETIZATIONS, Discretization
from model.groups import Grouped, Members, OpenGroup, Pooled, Projected
from model.layer_weights import Affine, LayerWeights, affine_norm, layer_norm
from model.planes import Planes
from model.pooling import WEIGHTINGS, Weighting

Keep = Callable[[Array], Array]
"""Dropout, or the identity."""


def identity(x: Any) -> Any:
    """Keep everything."""
    return x


@dataclass(frozen=True)
class Block:
    """How a layer computes; its weights are an argument of everything it does."""

    stride: int
    prenorm: bool
    discretization: Discretization
    weighting: Weighting
    norm: Callable[[Affine, Array], Array]

    def project(self, weights: LayerWeights, x: Float[Array, "*b h"]) -> Projected:
        """Do all that depends on an input alone."""
        return self.enter(weights, self.norm(weights.norm, x) if self.prenorm else x, x)

    def enter(self, weights: LayerWeights, u: Array, x: Array) -> Projected:
        """Project an input `x` that is normalised already, to `u`."""
        return Projected(drive=u @ weights.B, feed=u, skip=x)

    def mix(
        self, weights: LayerWeights, state: Planes, pooled: Pooled, keep: Keep
    ) -> Float[Array, "*b o"]:
        """Turn states into outputs: C and D, GLU, residual sum; before any norm."""
        D, feed = weights.D, pooled.feed
        y = planes.side_by_side(state) @ weights.C
        y = y + (feed * D if D.ndim == 1 else feed @ D)
        gate = nn.sigmoid(_apply(weights.gate, keep(nn.gelu(y))))
        skip = _apply(weights.widen, pooled.skip) if weights.widen else pooled.skip
        return skip + keep(y * gate)

    def finish(
        self, weights: LayerWeights, y: Float[Array, "*b h"]
    ) -> Float[Array, "*b h"]:
        """Apply the norm of a postnorm layer."""
        return y if self.prenorm else self.norm(weights.norm, y)

    def recur(
        self, weights: LayerWeights, state: Planes, inputs: Grouped
    ) -> tuple[Planes, Planes, Pooled]:
        """Run over stride groups.

        Args:
            weights: The layer's.
            state: The state before the first group, (..., p).
            inputs: At least one group.

        Returns:
            Per group: the state after it, the state after its first token, both
            (..., g, p); and its pooled inputs.
        """
        if self.stride == 1:
            return self._recur_singly(weights, state, inputs)
        rates, dt_ms = weights.rates, inputs.dt_ms
        first, drive, pooled = self.sum_up(weights, inputs)
        decay = planes.exp(rates, dt_ms.sum(axis=-1)[..., None])
        after = recurrence.run_planes(state, decay, drive)

        def shift(old: Array, new: Array) -> Array:
            return jnp.concatenate([old[..., None, :], new[..., :-1, :]], axis=-2)

        before = jax.tree.map(shift, state, after)
        reached = planes.times(planes.exp(rates, dt_ms[..., :1]), before)
        return after, planes.plus(reached, first), pooled

    def _recur_singly(
        self, weights: LayerWeights, state: Planes, inputs: Grouped
    ) -> tuple[Planes, Planes, Pooled]:
        projected = inputs.project(jax.tree.map(lambda x: x[0], inputs.items))
        drive = planes.halves(projected.drive)
        entering = self.discretization.enter(weights.rates, inputs.dt_ms, drive)
        decay = planes.exp(weights.rates, inputs.dt_ms)
        after = recurrence.run_planes(state, decay, entering)
        return after, after, Pooled(projected.feed, projected.skip)

    def sum_up(
        self, weights: LayerWeights, inputs: Grouped
    ) -> tuple[Planes, Planes, Pooled]:
        """Return per group what its first token adds, what all add, and their mean.

        A CPU takes a group's tokens in turn and keeps what it sums up in its cache.
        An accelerator pays dearly for each step of a loop: it takes all at once.
        """
        gaps, shares = self.by_place(inputs.dt_ms)
        tokens = Members(inputs.items, gaps, shares)
        total = jax.lax.platform_dependent(
            weights.rates,
            tokens,
            cpu=partial(self.sum_in_turn, inputs.project),
            default=partial(self.sum_at_once, inputs.project),
        )
        first, _ = self._take(
            inputs.project, weights.rates, jax.tree.map(lambda x: x[0], tokens)
        )
        return first, *total

    def by_place(self, dt_ms: Float[Array, "*b g n"]) -> tuple[Array, Array]:
        """Return gaps and shares in the group's mean, (n, ..., g, 1)."""
        shares = self.weighting(dt_ms, jnp.arange(self.stride))
        shares = shares / shares.sum(axis=-1, keepdims=True)
        gaps, shares = (jnp.moveaxis(x, -1, 0)[..., None] for x in (dt_ms, shares))
        return gaps, shares

    def _take(
        self, project: Callable[[Any], Projected], rates: Planes, tokens: Members
    ) -> tuple[Planes, Pooled]:
        """Return what tokens add to the state and to the mean."""
        projected, share = project(tokens.items), tokens.shares
        drive = planes.halves(projected.drive)
        entering = self.discretization.enter(rates, tokens.gaps, drive)
        return entering, Pooled(share * projected.feed, share * projected.skip)

    def sum_in_turn(
        self, project: Callable[[Any], Projected], rates: Planes, tokens: Members
    ) -> tuple[Planes, Pooled]:
        """Sum stride groups up place by place; see `sum_up`."""
        take = partial(self._take, project, rates)

        def move(
            total: tuple[Planes, Pooled], token: Members
        ) -> tuple[tuple[Planes, Pooled], None]:
            drive = planes.times(planes.exp(rates, token.gaps), total[0])
            return jax.tree.map(jnp.add, (drive, total[1]), take(token)), None

        first = take(jax.tree.map(lambda x: x[0], tokens))
        rest = jax.tree.map(lambda x: x[1:], tokens)
        return jax.lax.scan(move, first, rest)[0]

    def sum_at_once(
        self, project: Callable[[Any], Projected], rates: Planes, tokens: Members
    ) -> tuple[Planes, Pooled]:
        """Sum stride groups up in one go; see `sum_up`."""
        # Summed from the end: a difference of sums from the beginning would lose the
        # gaps that follow one of hours.
        onwards_ms = jax.lax.cumsum(tokens.gaps, axis=0, reverse=True)
        left_ms = jnp.concatenate([onwards_ms[1:], jnp.zeros_like(tokens.gaps[:1])])
        decay = planes.exp(rates, left_ms)
        entering, pooled = self._take(project, rates, tokens)
        parts = (planes.times(decay, entering), pooled)
        return jax.tree.map(lambda x: x.sum(axis=0), parts)

    def scan(
        self,
        weights: LayerWeights,
        state: Planes,
        inputs: Grouped,
    ) -> tuple[Planes, Float[Array, "*b g o"]]:
        """Run over stride groups; return per group the state and the output."""
        after, states, pooled = self.recur(weights, state, inputs)
        return after, self.finish(weights, self.mix(weights, states, pooled, identity))

    def init_group(self, weights: LayerWeights) -> OpenGroup:
        """Return a group that holds nothing."""
        zero = jax.tree.map(jnp.zeros_like, weights.rates)
        features = jnp.zeros(weights.B.shape[0], weights.B.dtype)
        nothing = jnp.zeros((), weights.B.dtype)
        held = jnp.zeros((), jnp.int32)
        return OpenGroup(held, nothing, zero, features, features, nothing)

    def step(
        self,
        weights: LayerWeights,
        state: Planes,
        group: OpenGroup,
        projected: Projected,
        dt_ms: Float[Array, ""],
    ) -> tuple[Planes, OpenGroup, Float[Array, " o"]]:
        """Take one token; the output counts only when the group is then complete."""
        drive = planes.halves(projected.drive)
        entering = self.discretization.enter(weights.rates, dt_ms, drive)
        decayed = planes.times(planes.exp(weights.rates, dt_ms), state)
        state = planes.plus(decayed, entering)
        weight = self.weighting(dt_ms, group.held)
        group = OpenGroup(
            held=group.held + 1,
            elapsed_ms=group.elapsed_ms + dt_ms,
            first=jax.tree.map(
                lambda new, old: jnp.where(group.held == 0, new, old),
                state,
                group.first,
            ),
            feed=group.feed + weight * projected.feed,
            skip=group.skip + weight * projected.skip,
            weight=group.weight + weight,
        )
        pooled = Pooled(group.feed / group.weight, group.skip / group.weight)
        y = self.mix(weights, group.first, pooled, identity)
        return state, group, self.finish(weights, y)


def zero_state(weights: LayerWeights, axes: tuple[int, ...]) -> Planes:
    """Return the states of streams that have seen nothing, (*axes, p)."""
    return jax.tree.map(
        lambda rate: jnp.zeros((*axes, *rate.shape), rate.dtype), weights.rates
    )


def blocks(config: ModelConfig) -> tuple[Block, ...]:
    """Return every layer's block, in order."""
    return tuple(
        Block(
            stride=config.pooling_stride if place == 0 else 1,
            prenorm=config.prenorm,
            discretization=DISCRETIZATIONS[config.discretization],
            weighting=WEIGHTINGS[config.pooling_mode],
            norm=affine_norm if config.batchnorm else layer_norm,
        )
        for _ in range(config.num_stages)
        for place in range(config.num_layers_per_stage)
    )


def _apply(affine: Affine, x: Array) -> Array:
    return x @ affine.kernel + affine.bias

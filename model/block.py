"""A layer's weights as its arithmetic wants them, and its norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from saccade.model import linear_recurrence, split_complex
from saccade.model.config import ModelConfig
from saccade.model.discretization import DISCRETIZATIONS, Discretization
from saccade.model.pooling import (
    WEIGHTINGS,
    Grouped,
    GroupTokens,
    OpenGroup,
    Pooled,
    Projected,
    Weighting,
)
from saccade.model.precision import FLOAT32, Precision
from saccade.model.split_complex import SplitComplex

NORM_EPSILON: Final = 1e-6


class Affine(NamedTuple):
    """x·kernel + bias, by matrix (h, o) or elementwise (h,)."""

    kernel: Float[Array, "*h o"]
    bias: Float[Array, " o"]


class LayerWeights(NamedTuple):
    """A layer's parameters as its arithmetic wants them.

    Attributes:
        rates: ΛΔ, (p,), 1/ms.
        B: Input to both planes of the drive, the shared gain included, (i, 2p).
        C: Both planes of the state to the output, Re(C·x), (2p, o); doubled for
            conjugate pairs.
        D: Feedthrough, (i,) or (i, o).
        gate: The GLU's.
        widen: The skip's, where a layer widens.
        norm: The norm's scale and shift.
    """

    rates: SplitComplex
    B: Float[Array, "i q"]
    C: Float[Array, "q o"]
    D: Float[Array, "*i o"]
    gate: Affine
    widen: Affine | None
    norm: Affine


def layer_norm(norm: Affine, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Normalise each input by its own mean and variance."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = jnp.maximum((x * x).mean(axis=-1, keepdims=True) - mean * mean, 0.0)
    scale = jax.lax.rsqrt(variance + NORM_EPSILON) * norm.kernel
    return (x - mean) * scale + norm.bias


def affine_norm(norm: Affine, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Normalise by what training left: a batch norm is a scale and a shift."""
    return x * norm.kernel + norm.bias


# >>> merged from model.block
# >>> """One SSM block as plain functions: normalise, project, recur, mix, add the skip.
# >>>
# >>> A block first projects each input on its own (`project`), and only then looks at time.
# >>> What it projects depends on the input alone, so for the first block a table of all
# >>> tokens' projections can stand in for the embedding.
# >>>
# >>> Only one state in a stride group is ever read: the one after the group's first token.
# >>> So a group is summed up first, and the recurrence proper runs from group to group.
# >>> """

MOST_IN_A_ROW: Final = 16
"""Places of a group that one loop of machine code takes, its sums in registers.

Each place adds its own part. Were the sum decayed from place to place, its two planes
would depend on both of the place before, and a compiler that fuses them all would
write that out twice a place."""

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
    precision: Precision = FLOAT32

    def project(self, weights: LayerWeights, x: Float[Array, "*b h"]) -> Projected:
        """Do all that depends on an input alone."""
        return self.enter(weights, self.norm(weights.norm, x) if self.prenorm else x, x)

    def enter(self, weights: LayerWeights, u: Array, x: Array) -> Projected:
        """Project an input `x` that is normalised already, to `u`."""
        drive = split_complex.halves(self.precision.multiply(u, weights.B))
        return Projected(drive=drive, feed=u, skip=x)

    def mix(
        self, weights: LayerWeights, state: SplitComplex, pooled: Pooled, keep: Keep
    ) -> Float[Array, "*b o"]:
        """Turn states into outputs: C and D, GLU, residual sum; before any norm."""
        D, feed, multiply = weights.D, pooled.feed, self.precision.multiply
        y = multiply(split_complex.side_by_side(state), weights.C)
        y = y + (feed * D if D.ndim == 1 else multiply(feed, D))
        gate = nn.sigmoid(self._apply(weights.gate, keep(nn.gelu(y))))
        widen, skip = weights.widen, pooled.skip
        skip = self._apply(widen, skip) if widen else skip
        return skip + keep(y * gate)

    def _apply(self, affine: Affine, x: Array) -> Array:
        return self.precision.multiply(x, affine.kernel) + affine.bias

    def finish(
        self, weights: LayerWeights, y: Float[Array, "*b h"]
    ) -> Float[Array, "*b h"]:
        """Apply the norm of a postnorm layer."""
        return y if self.prenorm else self.norm(weights.norm, y)

    def recur(
        self, weights: LayerWeights, state: SplitComplex, inputs: Grouped
    ) -> tuple[SplitComplex, SplitComplex, Pooled]:
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
        decay = split_complex.exp(rates, dt_ms.sum(axis=-1)[..., None])
        after = linear_recurrence.run_planes(state, decay, drive)

        def shift(old: Array, new: Array) -> Array:
            return jnp.concatenate([old[..., None, :], new[..., :-1, :]], axis=-2)

        before = jax.tree.map(shift, state, after)
        reached = split_complex.times(split_complex.exp(rates, dt_ms[..., :1]), before)
        return after, split_complex.plus(reached, first), pooled

    def _recur_singly(
        self, weights: LayerWeights, state: SplitComplex, inputs: Grouped
    ) -> tuple[SplitComplex, SplitComplex, Pooled]:
        projected = inputs.project(jax.tree.map(lambda x: x[0], inputs.items))
        drive, gaps = projected.drive, inputs.dt_ms
        entering = self.discretization.enter(weights.rates, gaps, drive)
        decay = split_complex.exp(weights.rates, gaps)
        after = linear_recurrence.run_planes(state, decay, entering)
        return after, after, Pooled(projected.feed, projected.skip)

    def sum_up(
        self, weights: LayerWeights, inputs: Grouped
    ) -> tuple[SplitComplex, SplitComplex, Pooled]:
        """Return per group what its first token adds, what all add, and their mean.

        A CPU takes a group's tokens in turn and keeps what it sums up in registers.
        An accelerator pays dearly for each step of a loop: it takes all at once.
        """
        gaps, shares = self.by_place(inputs.dt_ms)
        tokens = GroupTokens(inputs.items, gaps, shares)
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
        self,
        project: Callable[[Any], Projected],
        rates: SplitComplex,
        tokens: GroupTokens,
    ) -> tuple[SplitComplex, Pooled]:
        """Return what tokens add to the state and to the mean."""
        projected, share = project(tokens.items), tokens.shares
        entering = self.discretization.enter(rates, tokens.gaps, projected.drive)
        return entering, Pooled(share * projected.feed, share * projected.skip)

    def sum_in_turn(
        self,
        project: Callable[[Any], Projected],
        rates: SplitComplex,
        tokens: GroupTokens,
    ) -> tuple[SplitComplex, Pooled]:
        """Sum stride groups up place by place; see `sum_up`."""
        parts = partial(self._parts, project, rates)

        def move(
            total: tuple[SplitComplex, Pooled], place: tuple[GroupTokens, Array]
        ) -> tuple[tuple[SplitComplex, Pooled], None]:
            return jax.tree.map(jnp.add, total, parts(*place)), None

        places = (tokens, _left_ms(tokens.gaps))
        first = parts(*jax.tree.map(lambda x: x[0], places))
        rest = jax.tree.map(lambda x: x[1:], places)
        return jax.lax.scan(move, first, rest, unroll=MOST_IN_A_ROW)[0]

    def sum_at_once(
        self,
        project: Callable[[Any], Projected],
        rates: SplitComplex,
        tokens: GroupTokens,
    ) -> tuple[SplitComplex, Pooled]:
        """Sum stride groups up in one go; see `sum_up`."""
        parts = self._parts(project, rates, tokens, _left_ms(tokens.gaps))
        return jax.tree.map(lambda x: x.sum(axis=0), parts)

    def _parts(
        self,
        project: Callable[[Any], Projected],
        rates: SplitComplex,
        tokens: GroupTokens,
        left_ms: Float[Array, "..."],
    ) -> tuple[SplitComplex, Pooled]:
        """Return what is left at the group's end of what tokens add."""
        entering, pooled = self._take(project, rates, tokens)
        return split_complex.times(split_complex.exp(rates, left_ms), entering), pooled

    def scan(
        self,
        weights: LayerWeights,
        state: SplitComplex,
        inputs: Grouped,
    ) -> tuple[SplitComplex, Float[Array, "*b g o"]]:
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
        state: SplitComplex,
        group: OpenGroup,
        projected: Projected,
        dt_ms: Float[Array, ""],
    ) -> tuple[SplitComplex, OpenGroup, Float[Array, " o"]]:
        """Take one token; the output counts only when the group is then complete."""
        entering = self.discretization.enter(weights.rates, dt_ms, projected.drive)
        decayed = split_complex.times(split_complex.exp(weights.rates, dt_ms), state)
        state = split_complex.plus(decayed, entering)
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


def _left_ms(gaps: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the time from each token to its group's end, places first, ms."""
    # Summed from the end: a difference of sums from the beginning would lose the
    # gaps that follow one of hours.
    onwards_ms = jax.lax.cumsum(gaps, axis=0, reverse=True)
    return jnp.concatenate([onwards_ms[1:], jnp.zeros_like(gaps[:1])])


def zero_state(weights: LayerWeights, axes: tuple[int, ...]) -> SplitComplex:
    """Return the states of streams that have seen nothing, (*axes, p)."""
    return jax.tree.map(
        lambda rate: jnp.zeros((*axes, *rate.shape), rate.dtype), weights.rates
    )


def blocks(config: ModelConfig, precision: Precision = FLOAT32) -> tuple[Block, ...]:
    """Return every layer's block, in order."""
    return tuple(
        Block(
            stride=config.pooling_stride if place == 0 else 1,
            prenorm=config.prenorm,
            discretization=DISCRETIZATIONS[config.discretization],
            weighting=WEIGHTINGS[config.pooling_mode],
            norm=affine_norm if config.batchnorm else layer_norm,
            precision=precision,
        )
        for _ in range(config.num_stages)
        for place in range(config.num_layers_per_stage)
    )

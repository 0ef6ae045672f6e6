"""One SSM block as plain functions: normalise, project, recur, mix, add the skip.

A block first projects each input on its own (`project`) and only then looks at time.
The projection depends on the input alone, so for the first block a table of all tokens'
projections replaces the embedding.

A stride group's output reads one state: the one after the group's first token. So each
group is summed first, and the recurrence runs from group to group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from saccade.model import linear_recurrence, split_complex
from saccade.model.array_types import Array, Float
from saccade.model.config import ModelConfig
from saccade.model.discretization import DISCRETIZATIONS, Discretization
from saccade.model.pooling import (
    POOLINGS,
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

UNROLLED_PLACES: Final = 16
"""Places of a stride group in one iteration of a CPU's loop, the sums in registers.

Each place adds its own decayed part. If the sum were decayed from place to place, its
real and imaginary parts would each depend on both of the place before: the compiler
fuses the unrolled places and would write each of them out twice."""

Dropout = Callable[[Array], Array]
"""Drops features out, or `identity`."""


class Affine(NamedTuple):
    """x·kernel + bias, by matrix (h, o) or elementwise (h,)."""

    kernel: Float[Array, "*h o"]
    bias: Float[Array, " o"]


class LayerWeights(NamedTuple):
    """A layer's parameters, folded.

    Attributes:
        rates: ΛΔ, (p,), 1/ms.
        B: From an input to its drive as a row, the shared gain included, (i, 2p).
        C: From a state as a row to the output, Re(C·x), (2p, o); doubled for
            conjugate pairs.
        D: Feedthrough, (i,) or (i, o).
        gate: Of the GLU.
        skip_projection: Of the skip, in a layer with more outputs than inputs.
        norm: The norm's scale and shift.
    """

    rates: SplitComplex
    B: Float[Array, "i q"]
    C: Float[Array, "q o"]
    D: Float[Array, "*i o"]
    gate: Affine
    skip_projection: Affine | None
    norm: Affine


def layer_norm(norm: Affine, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Normalise each input by its own mean and variance."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = jnp.maximum((x * x).mean(axis=-1, keepdims=True) - mean * mean, 0.0)
    scale = jax.lax.rsqrt(variance + NORM_EPSILON) * norm.kernel
    return (x - mean) * scale + norm.bias


def affine_norm(norm: Affine, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Scale and shift: a batch norm with the statistics that training stored."""
    return x * norm.kernel + norm.bias


def identity(x: Any) -> Any:
    """Return x: no dropout."""
    return x


@dataclass(frozen=True)
class Block:
    """A layer's arithmetic; its weights are an argument of every method."""

    stride: int
    prenorm: bool
    discretization: Discretization
    weighting: Weighting
    norm: Callable[[Affine, Array], Array]
    precision: Precision = FLOAT32

    def project(self, weights: LayerWeights, x: Float[Array, "*b h"]) -> Projected:
        """Normalise and project inputs, all that does not depend on time."""
        return self.enter(weights, self.norm(weights.norm, x) if self.prenorm else x, x)

    def enter(self, weights: LayerWeights, u: Array, x: Array) -> Projected:
        """Project inputs `x` whose normalised values are `u`."""
        drive = split_complex.from_row(self.precision.multiply(u, weights.B))
        return Projected(drive=drive, feed=u, skip=x)

    def mix(
        self, weights: LayerWeights, state: SplitComplex, pooled: Pooled, drop: Dropout
    ) -> Float[Array, "*b o"]:
        """Turn states into outputs: C and D, GLU, residual sum; before any norm."""
        D, feed, multiply = weights.D, pooled.feed, self.precision.multiply
        y = multiply(split_complex.to_row(state), weights.C)
        y = y + (feed * D if D.ndim == 1 else multiply(feed, D))
        gate = nn.sigmoid(self._apply(weights.gate, drop(nn.gelu(y))))
        projection, skip = weights.skip_projection, pooled.skip
        skip = self._apply(projection, skip) if projection else skip
        return skip + drop(y * gate)

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
            weights: The layer's weights.
            state: The state before the first group, (..., p).
            inputs: At least one group.

        Returns:
            Per group, the state after the group and the state after its first token,
            both (..., g, p), and the pooled inputs.
        """
        if self.stride == 1:
            return self._recur_singly(weights, state, inputs)
        rates, dt_ms = weights.rates, inputs.dt_ms
        first, drive, pooled = self.sum_groups(weights, inputs)
        decay = split_complex.exp(rates, dt_ms.sum(axis=-1)[..., None])
        after = linear_recurrence.complex_scan(state, decay, drive)

        def shift(old: Array, new: Array) -> Array:
            return jnp.concatenate([old[..., None, :], new[..., :-1, :]], axis=-2)

        before = jax.tree.map(shift, state, after)
        reached = split_complex.multiply(
            split_complex.exp(rates, dt_ms[..., :1]), before
        )
        return after, split_complex.add(reached, first), pooled

    def _recur_singly(
        self, weights: LayerWeights, state: SplitComplex, inputs: Grouped
    ) -> tuple[SplitComplex, SplitComplex, Pooled]:
        projected = inputs.project(jax.tree.map(lambda x: x[0], inputs.items))
        drive, gaps = projected.drive, inputs.dt_ms
        entering = self.discretization.enter(weights.rates, gaps, drive)
        decay = split_complex.exp(weights.rates, gaps)
        after = linear_recurrence.complex_scan(state, decay, entering)
        return after, after, Pooled(projected.feed, projected.skip)

    def sum_groups(
        self, weights: LayerWeights, inputs: Grouped
    ) -> tuple[SplitComplex, SplitComplex, Pooled]:
        """Sum stride groups.

        A CPU adds a group's tokens one by one, the sums in registers. An accelerator,
        where each step of a loop is expensive, adds them all at once.

        Returns:
            Per group, the first token's contribution to the state, all tokens'
            contribution to the state at the group's end, and the pooled inputs.
        """
        gaps, shares = self.by_place(inputs.dt_ms)
        tokens = GroupTokens(inputs.items, gaps, shares)
        total = jax.lax.platform_dependent(
            weights.rates,
            tokens,
            cpu=partial(self.sum_one_by_one, inputs.project),
            default=partial(self.sum_at_once, inputs.project),
        )
        first, _ = self._contributions(
            inputs.project, weights.rates, jax.tree.map(lambda x: x[0], tokens)
        )
        return first, *total

    def by_place(self, dt_ms: Float[Array, "*b g n"]) -> tuple[Array, Array]:
        """Return gaps and shares in the group's mean, each (n, ..., g, 1)."""
        shares = self.weighting(dt_ms, jnp.arange(self.stride))
        shares = shares / shares.sum(axis=-1, keepdims=True)
        gaps, shares = (jnp.moveaxis(x, -1, 0)[..., None] for x in (dt_ms, shares))
        return gaps, shares

    def _contributions(
        self,
        project: Callable[[Any], Projected],
        rates: SplitComplex,
        tokens: GroupTokens,
    ) -> tuple[SplitComplex, Pooled]:
        """Return tokens' contributions to the state, on entry, and to the mean."""
        projected, share = project(tokens.items), tokens.shares
        entering = self.discretization.enter(rates, tokens.gaps, projected.drive)
        return entering, Pooled(share * projected.feed, share * projected.skip)

    def sum_one_by_one(
        self,
        project: Callable[[Any], Projected],
        rates: SplitComplex,
        tokens: GroupTokens,
    ) -> tuple[SplitComplex, Pooled]:
        """Sum stride groups place by place; see `sum_groups`."""
        parts = partial(self._decayed, project, rates)

        def move(
            total: tuple[SplitComplex, Pooled], place: tuple[GroupTokens, Array]
        ) -> tuple[tuple[SplitComplex, Pooled], None]:
            return jax.tree.map(jnp.add, total, parts(*place)), None

        places = (tokens, _left_ms(tokens.gaps))
        first = parts(*jax.tree.map(lambda x: x[0], places))
        rest = jax.tree.map(lambda x: x[1:], places)
        return jax.lax.scan(move, first, rest, unroll=UNROLLED_PLACES)[0]

    def sum_at_once(
        self,
        project: Callable[[Any], Projected],
        rates: SplitComplex,
        tokens: GroupTokens,
    ) -> tuple[SplitComplex, Pooled]:
        """Sum all places of stride groups at once; see `sum_groups`."""
        parts = self._decayed(project, rates, tokens, _left_ms(tokens.gaps))
        return jax.tree.map(lambda x: x.sum(axis=0), parts)

    def _decayed(
        self,
        project: Callable[[Any], Projected],
        rates: SplitComplex,
        tokens: GroupTokens,
        left_ms: Float[Array, "..."],
    ) -> tuple[SplitComplex, Pooled]:
        """Return tokens' contributions at their group's end, `left_ms` later."""
        entering, pooled = self._contributions(project, rates, tokens)
        return split_complex.multiply(
            split_complex.exp(rates, left_ms), entering
        ), pooled

    def scan(
        self,
        weights: LayerWeights,
        state: SplitComplex,
        inputs: Grouped,
    ) -> tuple[SplitComplex, Float[Array, "*b g o"]]:
        """Run over stride groups; return each group's state and output."""
        after, states, pooled = self.recur(weights, state, inputs)
        return after, self.finish(weights, self.mix(weights, states, pooled, identity))

    def init_group(self, weights: LayerWeights) -> OpenGroup:
        """Return an empty group."""
        state = jax.tree.map(jnp.zeros_like, weights.rates)
        features = jnp.zeros(weights.B.shape[0], weights.B.dtype)
        zero = jnp.zeros((), weights.B.dtype)
        held = jnp.zeros((), jnp.int32)
        return OpenGroup(held, zero, state, features, features, zero)

    def step(
        self,
        weights: LayerWeights,
        state: SplitComplex,
        group: OpenGroup,
        projected: Projected,
        dt_ms: Float[Array, ""],
    ) -> tuple[SplitComplex, OpenGroup, Float[Array, " o"]]:
        """Take one token; the output is valid only if it completes the group."""
        entering = self.discretization.enter(weights.rates, dt_ms, projected.drive)
        decayed = split_complex.multiply(split_complex.exp(weights.rates, dt_ms), state)
        state = split_complex.add(decayed, entering)
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
    # Summed from the end: in a difference of sums from the beginning, a gap of hours
    # would cancel the gaps that follow it.
    onwards_ms = jax.lax.cumsum(gaps, axis=0, reverse=True)
    return jnp.concatenate([onwards_ms[1:], jnp.zeros_like(gaps[:1])])


def zero_state(weights: LayerWeights, axes: tuple[int, ...]) -> SplitComplex:
    """Return the states of new streams, (*axes, p)."""
    return jax.tree.map(
        lambda rate: jnp.zeros((*axes, *rate.shape), rate.dtype), weights.rates
    )


def blocks(config: ModelConfig, precision: Precision = FLOAT32) -> tuple[Block, ...]:
    """Return every layer's block, in order, each with this precision."""
    return tuple(
        Block(
            stride=config.pooling_stride if place == 0 else 1,
            prenorm=config.prenorm,
            discretization=DISCRETIZATIONS[config.discretization],
            weighting=POOLINGS[config.pooling_mode],
            norm=affine_norm if config.batchnorm else layer_norm,
            precision=precision,
        )
        for _ in range(config.num_stages)
        for place in range(config.num_layers_per_stage)
    )

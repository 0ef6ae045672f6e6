"""One block over a whole sequence from a zero state: what training differentiates.

`recur_from_zero` computes what `Block.recur` does, from zero and with written-out
gradients of both the stride groups' sums and the recurrence.

A token's projection is a row of a table, so that the sums read one row an event and
store none. By the definition of the sum, its gradient needs the groups' sums alone, and
each token's decay once more:

    total = Σ_j exp(r·(T - t_j))·drive_j      ∂total/∂r = Σ_j (T - t_j)·exp(…)·drive_j
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from saccade.model import split_complex
from saccade.model.array_types import Array, Float, Int
from saccade.model.block import Block, LayerWeights
from saccade.model.discretization import enter_whole
from saccade.model.linear_recurrence import scan_from_zero, shift_by_one
from saccade.model.pooling import Grouped, Pooled, Projected, rows
from saccade.model.split_complex import SplitComplex


class TokenInputs(NamedTuple):
    """The first block's inputs: tokens in stride groups, and a table of projections.

    Attributes:
        table: Every token's projection by the block.
        tokens: (..., g, n).
        dt_ms: Integration timesteps, (..., g, n), ms.
    """

    table: Projected
    tokens: Int[Array, "*b g n"]
    dt_ms: Float[Array, "*b g n"]

    def by_place(self) -> Grouped:
        """Return the same inputs as `Block` takes them."""

        def project(tokens: Int[Array, "..."]) -> Projected:
            return rows(self.table, tokens)

        return Grouped(jnp.moveaxis(self.tokens, -1, 0), project, self.dt_ms)


def recur_from_zero(
    block: Block, weights: LayerWeights, inputs: Grouped | TokenInputs
) -> tuple[SplitComplex, Pooled]:
    """Run a block's recurrence over stride groups, from zero.

    Returns:
        Per group, the state after its first token, (..., g, p), and its pooled inputs.
    """
    rates, dt_ms = weights.rates, inputs.dt_ms
    if block.stride == 1:
        grouped = inputs.by_place() if isinstance(inputs, TokenInputs) else inputs
        return _recur_singly(block, weights, grouped)
    first, drive, pooled = _sum_groups(block, weights, inputs)
    after = scan_from_zero(
        split_complex.exp(rates, dt_ms.sum(axis=-1)[..., None]), drive
    )
    reached = split_complex.multiply(
        split_complex.exp(rates, dt_ms[..., :1]), shift_by_one(after)
    )
    return split_complex.add(reached, first), pooled


def _recur_singly(
    block: Block, weights: LayerWeights, inputs: Grouped
) -> tuple[SplitComplex, Pooled]:
    projected = inputs.project(jax.tree.map(lambda x: x[0], inputs.items))
    entering = block.discretization.enter(weights.rates, inputs.dt_ms, projected.drive)
    decay = split_complex.exp(weights.rates, inputs.dt_ms)
    return scan_from_zero(decay, entering), Pooled(projected.feed, projected.skip)


def _sum_groups(
    block: Block, weights: LayerWeights, inputs: Grouped | TokenInputs
) -> tuple[SplitComplex, SplitComplex, Pooled]:
    if isinstance(inputs, Grouped):
        return block.sum_groups(weights, inputs)
    if block.discretization.enter is not enter_whole:
        return block.sum_groups(weights, inputs.by_place())
    gaps, shares = block.by_place(inputs.dt_ms)
    table = jnp.concatenate(jax.tree.leaves(inputs.table), axis=-1)
    groups = TokenGroups(jnp.moveaxis(inputs.tokens, -1, 0), gaps, shares)
    sums = sum_token_groups(table, weights.rates, groups)
    return sums.first, sums.total, Pooled(*jnp.split(sums.mean, 2, axis=-1))


class TokenGroups(NamedTuple):
    """The tokens of stride groups, by place in the group.

    Attributes:
        tokens: Rows of the table, (n, ..., g).
        gaps: Integration timesteps, (n, ..., g, 1), ms.
        shares: Weights in the group's mean, (n, ..., g, 1); a group's add up to 1.
    """

    tokens: Int[Array, "n *b g"]
    gaps: Float[Array, "n *b g 1"]
    shares: Float[Array, "n *b g 1"]


class Sums(NamedTuple):
    """The sums over each stride group.

    Attributes:
        first: The first token's contribution to the state, (..., g, p).
        total: All tokens' contribution to the state at the group's end, (..., g, p).
        mean: The weighted mean of what follows the drive in a row, (..., g, ·).
    """

    first: SplitComplex
    total: SplitComplex
    mean: Float[Array, "*b g _"]


Kept: TypeAlias = tuple[Float[Array, "v w"], SplitComplex, TokenGroups, SplitComplex]
"""Table, rates, groups, and the derivative of `Sums.total` by the rates."""


@jax.custom_vjp
def sum_token_groups(
    table: Float[Array, "v w"], rates: SplitComplex, groups: TokenGroups
) -> Sums:
    """Sum stride groups.

    Gradients reach the table and the rates; the groups are data.

    Args:
        table: Each token's drive as a row, followed by what is averaged.
        rates: ΛΔ, (p,), 1/ms.
        groups: At least one place.
    """
    return _summed(table, rates, groups)[0]


def _summed(
    table: Float[Array, "v w"], rates: SplitComplex, groups: TokenGroups
) -> tuple[Sums, SplitComplex]:
    """Return the sums and their totals' derivative by the rates."""
    width = 2 * rates.real.shape[-1]

    def move(
        held: tuple[SplitComplex, SplitComplex, Array], place: TokenGroups
    ) -> tuple[tuple[SplitComplex, SplitComplex, Array], None]:
        total, slope, mean = held
        row, decay = table[place.tokens], split_complex.exp(rates, place.gaps)
        aged = jax.tree.map(lambda m, x: m + place.gaps * x, slope, total)
        drive = split_complex.from_row(row[..., :width])
        total = split_complex.add(split_complex.multiply(decay, total), drive)
        mean = mean + place.shares * row[..., width:]
        return (total, split_complex.multiply(decay, aged), mean), None

    row = table[groups.tokens[0]]
    first = split_complex.from_row(row[..., :width])
    flat = jax.tree.map(jnp.zeros_like, first)
    start = (first, flat, groups.shares[0] * row[..., width:])
    rest = jax.tree.map(lambda x: x[1:], groups)
    (total, slope, mean), _ = jax.lax.scan(move, start, rest)
    return Sums(first, total, mean), slope


def _forward(
    table: Float[Array, "v w"], rates: SplitComplex, groups: TokenGroups
) -> tuple[Sums, Kept]:
    sums, slope = _summed(table, rates, groups)
    return sums, (table, rates, groups, slope)


def _backward(kept: Kept, cotangent: Sums) -> tuple[Array, SplitComplex, TokenGroups]:
    table, rates, groups, slope = kept
    axes = tuple(range(cotangent.mean.ndim - 1))
    by_rates = split_complex.multiply(split_complex.conjugate(slope), cotangent.total)

    def add_rows(by_table: Array, place: TokenGroups, drive: SplitComplex) -> Array:
        row = [*drive, place.shares * cotangent.mean]
        return by_table.at[place.tokens].add(jnp.concatenate(row, axis=-1))

    def move(
        held: tuple[Array, SplitComplex], place: TokenGroups
    ) -> tuple[tuple[Array, SplitComplex], None]:
        by_table, drive = held
        decay = split_complex.conjugate(split_complex.exp(rates, place.gaps))
        by_table = add_rows(by_table, place, drive)
        return (by_table, split_complex.multiply(decay, drive)), None

    rest = jax.tree.map(lambda x: x[1:], groups)
    start = (jnp.zeros_like(table), cotangent.total)
    (by_table, drive), _ = jax.lax.scan(move, start, rest, reverse=True)
    by_table = add_rows(
        by_table,
        jax.tree.map(lambda x: x[0], groups),
        split_complex.add(drive, cotangent.first),
    )
    return (
        by_table,
        jax.tree.map(lambda x: x.sum(axes), by_rates),
        _no_gradient(groups),
    )


def _no_gradient(groups: TokenGroups) -> TokenGroups:
    tokens = jnp.zeros(groups.tokens.shape, jax.dtypes.float0)
    return TokenGroups(
        tokens, jnp.zeros_like(groups.gaps), jnp.zeros_like(groups.shares)
    )


sum_token_groups.defvjp(_forward, _backward)

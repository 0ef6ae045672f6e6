"""What the words of each stride group add up to, and the gradient of that.

A token's projection is a row of a table, so that training reads one row an event and
keeps nothing of it. The gradient is written out: by the definition of the sum, it needs
the groups' sums alone, and each token's decay once more.

    total = Σ_j exp(r·(T - t_j))·drive_j      ∂total/∂r = Σ_j (T - t_j)·exp(…)·drive_j
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from saccade.model import split_complex
from saccade.model.block import Block, LayerWeights
from saccade.model.discretization import enter_whole
from saccade.model.linear_recurrence import one_later, run_from_zero
from saccade.model.pooling import (
    Grouped,
    Pooled,
    Projected,
    rows,
)
from saccade.model.split_complex import SplitComplex


class TokenGroups(NamedTuple):
    """The tokens of stride groups, by place in the group.

    Attributes:
        tokens: Rows of the table, (n, ..., g).
        gaps: Integration timesteps, (n, ..., g, 1), ms.
        shares: Weights in the group's mean, likewise; they add up to 1.
    """

    tokens: Int[Array, "n *b g"]
    gaps: Float[Array, "n *b g 1"]
    shares: Float[Array, "n *b g 1"]


class Sums(NamedTuple):
    """What is left of stride groups.

    Attributes:
        first: What the first token adds to the state, (..., g, p).
        total: What all add to it, by the end of the group, likewise.
        mean: The weighted mean of what follows the drive in a row, (..., g, ·).
    """

    first: SplitComplex
    total: SplitComplex
    mean: Float[Array, "*b g _"]


Kept: TypeAlias = tuple[Float[Array, "v w"], SplitComplex, TokenGroups, SplitComplex]


@jax.custom_vjp
def sum_token_groups(
    table: Float[Array, "v w"], rates: SplitComplex, words: TokenGroups
) -> Sums:
    """Sum stride groups up.

    Gradients reach the table and the rates; the words are data.

    Args:
        table: Each word's drive, both planes side by side, and what is averaged.
        rates: ΛΔ, (p,), 1/ms.
        words: At least one place.
    """
    return _summed(table, rates, words)[0]


def _summed(
    table: Float[Array, "v w"], rates: SplitComplex, words: TokenGroups
) -> tuple[Sums, SplitComplex]:
    """Return the sums and their totals' derivative by the rates."""
    wide = 2 * rates.real.shape[-1]

    def move(
        held: tuple[SplitComplex, SplitComplex, Array], word: TokenGroups
    ) -> tuple[tuple[SplitComplex, SplitComplex, Array], None]:
        total, slope, mean = held
        row, decay = table[word.tokens], split_complex.exp(rates, word.gaps)
        aged = jax.tree.map(lambda m, x: m + word.gaps * x, slope, total)
        drive = split_complex.halves(row[..., :wide])
        total = split_complex.plus(split_complex.times(decay, total), drive)
        mean = mean + word.shares * row[..., wide:]
        return (total, split_complex.times(decay, aged), mean), None

    row = table[words.tokens[0]]
    first = split_complex.halves(row[..., :wide])
    flat = jax.tree.map(jnp.zeros_like, first)
    begun = (first, flat, words.shares[0] * row[..., wide:])
    rest = jax.tree.map(lambda x: x[1:], words)
    (total, slope, mean), _ = jax.lax.scan(move, begun, rest)
    return Sums(first, total, mean), slope


def _forward(
    table: Float[Array, "v w"], rates: SplitComplex, words: TokenGroups
) -> tuple[Sums, Kept]:
    sums, slope = _summed(table, rates, words)
    return sums, (table, rates, words, slope)


def _backward(kept: Kept, wanted: Sums) -> tuple[Array, SplitComplex, TokenGroups]:
    table, rates, words, slope = kept
    axes = tuple(range(wanted.mean.ndim - 1))
    turned = split_complex.times(split_complex.conjugate(slope), wanted.total)

    def credit(found: Array, word: TokenGroups, drive: SplitComplex) -> Array:
        row = [*drive, word.shares * wanted.mean]
        return found.at[word.tokens].add(jnp.concatenate(row, axis=-1))

    def move(
        held: tuple[Array, SplitComplex], word: TokenGroups
    ) -> tuple[tuple[Array, SplitComplex], None]:
        found, drive = held
        decay = split_complex.conjugate(split_complex.exp(rates, word.gaps))
        return (credit(found, word, drive), split_complex.times(decay, drive)), None

    rest = jax.tree.map(lambda x: x[1:], words)
    begun = (jnp.zeros_like(table), wanted.total)
    (found, drive), _ = jax.lax.scan(move, begun, rest, reverse=True)
    found = credit(
        found,
        jax.tree.map(lambda x: x[0], words),
        split_complex.plus(drive, wanted.first),
    )
    return (
        found,
        jax.tree.map(lambda x: x.sum(axes), turned),
        _no_gradient(words),
    )


def _no_gradient(words: TokenGroups) -> TokenGroups:
    tokens = jnp.zeros(words.tokens.shape, jax.dtypes.float0)
    return TokenGroups(tokens, jnp.zeros_like(words.gaps), jnp.zeros_like(words.shares))


sum_token_groups.defvjp(_forward, _backward)


# >>> merged from model.whole_sequence
# >>> """One block over a whole sequence from a zero state: what training differentiates.
# >>>
# >>> It computes what `model.block` does. There a state comes in and goes out; here nothing
# >>> goes out, and both the stride groups' sums and the recurrence bring their own gradients.
# >>> """


class TokenInputs(NamedTuple):
    """A sequence as words of a table, in stride groups.

    Attributes:
        table: Every word as the block projects it.
        tokens: (..., g, n).
        dt_ms: Integration timesteps, (..., g, n), ms.
    """

    table: Projected
    tokens: Int[Array, "*b g n"]
    dt_ms: Float[Array, "*b g n"]

    def by_place(self) -> Grouped:
        """Return the same as the block takes it."""

        def project(tokens: Int[Array, "..."]) -> Projected:
            return rows(self.table, tokens)

        return Grouped(jnp.moveaxis(self.tokens, -1, 0), project, self.dt_ms)


def run(
    block: Block, weights: LayerWeights, inputs: Grouped | TokenInputs
) -> tuple[SplitComplex, Pooled]:
    """Run over stride groups, from zero.

    Returns:
        Per group the state after its first token, (..., g, p), and its pooled inputs.
    """
    rates, dt_ms = weights.rates, inputs.dt_ms
    if block.stride == 1:
        grouped = inputs.by_place() if isinstance(inputs, TokenInputs) else inputs
        return _run_singly(block, weights, grouped)
    first, drive, pooled = _sums(block, weights, inputs)
    after = run_from_zero(
        split_complex.exp(rates, dt_ms.sum(axis=-1)[..., None]), drive
    )
    reached = split_complex.times(
        split_complex.exp(rates, dt_ms[..., :1]), one_later(after)
    )
    return split_complex.plus(reached, first), pooled


def _sums(
    block: Block, weights: LayerWeights, inputs: Grouped | TokenInputs
) -> tuple[SplitComplex, SplitComplex, Pooled]:
    if isinstance(inputs, Grouped):
        return block.sum_up(weights, inputs)
    if block.discretization.enter is not enter_whole:
        return block.sum_up(weights, inputs.by_place())
    gaps, shares = block.by_place(inputs.dt_ms)
    table = jnp.concatenate(jax.tree.leaves(inputs.table), axis=-1)
    words = TokenGroups(jnp.moveaxis(inputs.tokens, -1, 0), gaps, shares)
    sums = sum_token_groups(table, weights.rates, words)
    return sums.first, sums.total, Pooled(*jnp.split(sums.mean, 2, axis=-1))


def _run_singly(
    block: Block, weights: LayerWeights, inputs: Grouped
) -> tuple[SplitComplex, Pooled]:
    projected = inputs.project(jax.tree.map(lambda x: x[0], inputs.items))
    entering = block.discretization.enter(weights.rates, inputs.dt_ms, projected.drive)
    decay = split_complex.exp(weights.rates, inputs.dt_ms)
    return run_from_zero(decay, entering), Pooled(projected.feed, projected.skip)

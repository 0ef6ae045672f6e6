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

from saccade.model import planes
from saccade.model.planes import Planes


class Words(NamedTuple):
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

    first: Planes
    total: Planes
    mean: Float[Array, "*b g _"]


Kept: TypeAlias = tuple[Float[Array, "v w"], Planes, Words, Planes]


@jax.custom_vjp
def sum_words(table: Float[Array, "v w"], rates: Planes, words: Words) -> Sums:
    """Sum stride groups up.

    Gradients reach the table and the rates; the words are data.

    Args:
        table: Each word's drive, both planes side by side, and what is averaged.
        rates: ΛΔ, (p,), 1/ms.
        words: At least one place.
    """
    return _summed(table, rates, words)[0]


def _summed(
    table: Float[Array, "v w"], rates: Planes, words: Words
) -> tuple[Sums, Planes]:
    """Return the sums and their totals' derivative by the rates."""
    wide = 2 * rates.real.shape[-1]

    def move(
        held: tuple[Planes, Planes, Array], word: Words
    ) -> tuple[tuple[Planes, Planes, Array], None]:
        total, slope, mean = held
        row, decay = table[word.tokens], planes.exp(rates, word.gaps)
        aged = jax.tree.map(lambda m, x: m + word.gaps * x, slope, total)
        drive = planes.halves(row[..., :wide])
        total = planes.plus(planes.times(decay, total), drive)
        mean = mean + word.shares * row[..., wide:]
        return (total, planes.times(decay, aged), mean), None

    row = table[words.tokens[0]]
    first = planes.halves(row[..., :wide])
    flat = jax.tree.map(jnp.zeros_like, first)
    begun = (first, flat, words.shares[0] * row[..., wide:])
    rest = jax.tree.map(lambda x: x[1:], words)
    (total, slope, mean), _ = jax.lax.scan(move, begun, rest)
    return Sums(first, total, mean), slope


def _forward(
    table: Float[Array, "v w"], rates: Planes, words: Words
) -> tuple[Sums, Kept]:
    sums, slope = _summed(table, rates, words)
    return sums, (table, rates, words, slope)


def _backward(kept: Kept, wanted: Sums) -> tuple[Array, Planes, Words]:
    table, rates, words, slope = kept
    axes = tuple(range(wanted.mean.ndim - 1))
    turned = planes.times(planes.conjugate(slope), wanted.total)

    def credit(found: Array, word: Words, drive: Planes) -> Array:
        row = [*drive, word.shares * wanted.mean]
        return found.at[word.tokens].add(jnp.concatenate(row, axis=-1))

    def move(
        held: tuple[Array, Planes], word: Words
    ) -> tuple[tuple[Array, Planes], None]:
        found, drive = held
        decay = planes.conjugate(planes.exp(rates, word.gaps))
        return (credit(found, word, drive), planes.times(decay, drive)), None

    rest = jax.tree.map(lambda x: x[1:], words)
    begun = (jnp.zeros_like(table), wanted.total)
    (found, drive), _ = jax.lax.scan(move, begun, rest, reverse=True)
    found = credit(
        found,
        jax.tree.map(lambda x: x[0], words),
        planes.plus(drive, wanted.first),
    )
    return (
        found,
        jax.tree.map(lambda x: x.sum(axes), turned),
        _no_gradient(words),
    )


def _no_gradient(words: Words) -> Words:
    tokens = jnp.zeros(words.tokens.shape, jax.dtypes.float0)
    return Words(tokens, jnp.zeros_like(words.gaps), jnp.zeros_like(words.shares))


sum_words.defvjp(_forward, _backward)

"""One block over a whole sequence from a zero state: what training differentiates.

It computes what `model.block` does. There a state comes in and goes out; here nothing
goes out, and both the stride groups' sums and the recurrence bring their own gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from saccade.model import planes
from saccade.model.block import Block
from saccade.model.discretization import enter_whole
from saccade.model.groups import Grouped, Pooled, Projected, rows
from saccade.model.layer_weights import LayerWeights
from saccade.model.long_recurrence import one_later, run_from_zero
from saccade.model.planes import Planes
from saccade.model.word_sums import Words, sum_words


class Spelled(NamedTuple):
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
    block: Block, weights: LayerWeights, inputs: Grouped | Spelled
) -> tuple[Planes, Pooled]:
    """Run over stride groups, from zero.

    Returns:
        Per group the state after its first token, (..., g, p), and its pooled inputs.
    """
    rates, dt_ms = weights.rates, inputs.dt_ms
    if block.stride == 1:
        grouped = inputs.by_place() if isinstance(inputs, Spelled) else inputs
        return _run_singly(block, weights, grouped)
    first, drive, pooled = _sums(block, weights, inputs)
    after = run_from_zero(planes.exp(rates, dt_ms.sum(axis=-1)[..., None]), drive)
    reached = planes.times(planes.exp(rates, dt_ms[..., :1]), one_later(after))
    return planes.plus(reached, first), pooled


def _sums(
    block: Block, weights: LayerWeights, inputs: Grouped | Spelled
) -> tuple[Planes, Planes, Pooled]:
    if isinstance(inputs, Grouped):
        return block.sum_up(weights, inputs)
    if block.discretization.enter is not enter_whole:
        return block.sum_up(weights, inputs.by_place())
    gaps, shares = block.by_place(inputs.dt_ms)
    table = jnp.concatenate(jax.tree.leaves(inputs.table), axis=-1)
    words = Words(jnp.moveaxis(inputs.tokens, -1, 0), gaps, shares)
    sums = sum_words(table, weights.rates, words)
    return sums.first, sums.total, Pooled(*jnp.split(sums.mean, 2, axis=-1))


def _run_singly(
    block: Block, weights: LayerWeights, inputs: Grouped
) -> tuple[Planes, Pooled]:
    projected = inputs.project(jax.tree.map(lambda x: x[0], inputs.items))
    entering = block.discretization.enter(weights.rates, inputs.dt_ms, projected.drive)
    decay = planes.exp(weights.rates, inputs.dt_ms)
    return run_from_zero(decay, entering), Pooled(projected.feed, projected.skip)

"""Online inference as plain functions of folded weights: `step` and `advance`.

    row of the table ─> block 0 ─> … ─> last block ─> readout ─> decoder
      (one a token)       one vector a stride group       one mean a tick

| function | takes | for |
|---|---|---|
| `step` | one token, one timestep, a `State` | the definition of online inference |
| `advance` | ticks × sessions, their carries | the server |

Both equal `classifier.scan` of the whole sequence, by test. Both are pure and can be
jitted with `config` static. `classifier.fold` makes the weights.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from saccade.model import split_complex
from saccade.model.array_types import Array, Bool, Complex, Float, Int
from saccade.model.block import Affine, LayerWeights, blocks
from saccade.model.cache_blocking import advance_in_blocks
from saccade.model.config import ModelConfig
from saccade.model.pooling import Grouped, OpenGroup, Projected, grouped, rows
from saccade.model.precision import FLOAT32, Precision
from saccade.model.readout import READOUTS, Readout, accumulate
from saccade.model.split_complex import SplitComplex


class Weights(NamedTuple):
    """A network's parameters, folded: all that inference reads.

    Attributes:
        table: Each token's projection by the first block, leaves (v, ·).
        layers: The blocks' weights.
        decoder: From the mean to the logits.
    """

    table: Projected
    layers: tuple[LayerWeights, ...]
    decoder: Affine


class Carry(NamedTuple):
    """A session's state at a tick boundary: all that the engine keeps of a session.

    Attributes:
        ssm: Each layer's state, (..., p).
        readout: The running mean of the last stage's outputs.
    """

    ssm: tuple[Complex[Array, "*b _"], ...]
    readout: Readout


class State(NamedTuple):
    """All that a stream's future depends on: the carry and the open stride groups."""

    carry: Carry
    groups: tuple[OpenGroup, ...]


def step(
    config: ModelConfig,
    weights: Weights,
    state: State,
    token: Int[Array, ""],
    dt_ms: Float[Array, ""],
) -> tuple[State, Float[Array, " c"], Bool[Array, ""]]:
    """Take one event.

    Returns:
        The state, the logits (as of the last tick), and whether a tick was completed.
    """
    live = jnp.asarray(True)  # noqa: FBT003
    x = jnp.zeros(0)
    projected = rows(weights.table, token)
    ssm, groups = list(state.carry.ssm), list(state.groups)
    for place, (block, layer) in enumerate(
        zip(blocks(config), weights.layers, strict=True)
    ):
        if place:
            projected = block.project(layer, x)
        moved, group, x = block.step(
            layer, split_complex.split(ssm[place]), groups[place], projected, dt_ms
        )
        closes = live & (group.held == block.stride)
        dt_ms = group.elapsed_ms
        ssm[place] = jnp.where(live, split_complex.join(moved), ssm[place])
        groups[place] = _next_group(groups[place], group, live, closes)
        live = closes
    rule = READOUTS[config.classification_mode]
    readout, means = accumulate(
        rule, state.carry.readout, x[None], dt_ms[None], live[None]
    )
    after = State(Carry(tuple(ssm), readout), tuple(groups))
    return after, decode(weights, means[0]), live


def _next_group(
    before: OpenGroup, after: OpenGroup, live: Array, closes: Array
) -> OpenGroup:
    """Return the old group if no token arrived, an empty one if it is complete."""

    def choose(old: Array, new: Array) -> Array:
        return jnp.where(closes, jnp.zeros_like(new), jnp.where(live, new, old))

    chosen: OpenGroup = jax.tree.map(choose, before, after)
    return chosen


def advance(
    config: ModelConfig,
    weights: Weights,
    carry: Carry,
    tokens: Int[Array, "s l"],
    dt_ms: Float[Array, "s l"],
    ticks: Int[Array, " s"],
) -> tuple[Carry, Float[Array, "s k c"]]:
    """Move many sessions by whole ticks.

    Args:
        config: The model's configuration.
        weights: From `classifier.fold`.
        carry: The sessions' carries, leaves (s, ·).
        tokens: (s, k·R) for k ticks of R events.
        dt_ms: Integration timesteps, (s, k·R), ms.
        ticks: How many of its k ticks each session moves, (s,). A session with 0
            keeps its carry bit for bit.

    Returns:
        The carries, and the logits after each tick, (s, k, c); past a session's
        own ticks they repeat its last.
    """
    return advance_in(FLOAT32, config, weights, carry, tokens, dt_ms, ticks)


def advance_in(
    precision: Precision,
    config: ModelConfig,
    weights: Weights,
    carry: Carry,
    *batch: Array,
) -> tuple[Carry, Float[Array, "s k c"]]:
    """Run `advance` with matrix products of another precision.

    Args:
        precision: Of the products.
        config: The model's configuration.
        weights: From `classifier.fold`.
        carry: The sessions' carries, leaves (s, ·).
        *batch: Tokens, dt_ms and ticks, as of `advance`.
    """
    move = partial(advance_ticks, precision, config, weights)
    return advance_in_blocks(move, config.tick_events, carry, *batch)


def advance_ticks(
    precision: Precision,
    config: ModelConfig,
    weights: Weights,
    carry: Carry,
    *batch: Array,
) -> tuple[Carry, Float[Array, "s k c"]]:
    """Run `advance_in` in one block; ticks past a session's own are computed too."""
    tokens, dt_ms, ticks = batch
    inputs = embed(config, weights, tokens, dt_ms)
    states = tuple(map(split_complex.split, carry.ssm))
    after, outputs, elapsed_ms = forward(
        config, weights, states, inputs, precision=precision
    )
    size = outputs.shape[-2]
    rule = READOUTS[config.classification_mode]
    valid = jnp.arange(size) < ticks[..., None]
    readout, means = accumulate(rule, carry.readout, outputs, elapsed_ms, valid)

    def last(leaf: Array) -> Array:
        group = ticks * (leaf.shape[-2] // size) - 1
        chosen = jnp.take_along_axis(leaf, group[..., None, None], axis=-2, mode="clip")
        return chosen[..., 0, :]

    def keep_idle(old: Array, new: Array) -> Array:
        active = (ticks > 0).reshape(-1, *(1,) * (new.ndim - 1))
        return jnp.where(active, new, old)

    ssm = tuple(split_complex.join(jax.tree.map(last, moved)) for moved in after)
    logits = decode(weights, means, precision=precision)
    return jax.tree.map(keep_idle, carry, Carry(ssm, readout)), logits


def embed(
    config: ModelConfig,
    weights: Weights,
    tokens: Int[Array, "*b l"],
    dt_ms: Float[Array, "*b l"],
) -> Grouped:
    """Return whole ticks of tokens as the first block's inputs."""
    shape = (*tokens.shape[:-1], -1, config.pooling_stride)
    by_place = jnp.moveaxis(tokens.reshape(shape), -1, 0)
    return Grouped(by_place, partial(rows, weights.table), dt_ms.reshape(shape))


def forward(
    config: ModelConfig,
    weights: Weights,
    states: tuple[SplitComplex, ...],
    inputs: Grouped,
    *,
    precision: Precision = FLOAT32,
) -> tuple[tuple[SplitComplex, ...], Float[Array, "*b k h"], Float[Array, "*b k"]]:
    """Run whole ticks through every block.

    Args:
        config: The model's configuration.
        weights: From `classifier.fold`.
        states: Each block's state before, (..., p).
        inputs: The tokens, from `embed`.
        precision: Of matrix products.

    Returns:
        Each block's state after every one of its stride groups, (..., g, p); the
        outputs of the last block, one a tick; and the ticks' durations, ms.
    """
    steps = blocks(config, precision)
    after, chain = [], zip(steps, weights.layers, states, strict=True)
    outputs = inputs.dt_ms
    for place, (block, layer, state) in enumerate(chain):
        if place:
            elapsed_ms = inputs.dt_ms.sum(axis=-1)
            inputs = grouped(block.project(layer, outputs), elapsed_ms, block.stride)
        moved, outputs = block.scan(layer, state, inputs)
        after.append(moved)
    return tuple(after), outputs, inputs.dt_ms.sum(axis=-1)


def decode(
    weights: Weights, mean: Float[Array, "*b h"], *, precision: Precision = FLOAT32
) -> Float[Array, "*b c"]:
    """Return the class scores of a mean."""
    scores = precision.multiply(mean, weights.decoder.kernel)
    return scores + weights.decoder.bias

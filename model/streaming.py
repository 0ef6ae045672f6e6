"""Three ways to run one model: `scan`, `step` and `advance`, equal by test.

| function | takes | for |
|---|---|---|
| `scan` | a whole sequence | evaluation, comparison |
| `step` | one token, one timestep, a `State` | the definition of online inference |
| `advance` | ticks × sessions, their carries | the server |

All are pure and can be jitted with `config` static.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from saccade.model.cache_blocking import in_portions
from saccade.model.classifier import Classifier, Variables
from saccade.model.config import ModelConfig
from saccade.model.inference import (
    Carry,
    State,
    Weights,
    advance_ticks,
    embed,
    move_by_event,
)


def fold(config: ModelConfig, variables: Variables) -> Weights:
    """Turn a model's variables into what inference reads; see `Classifier.fold`."""
    return _folding(config)(variables)


@cache
def _folding(config: ModelConfig) -> Any:
    return jax.jit(partial(Classifier(config).apply, method="fold"))


def init_state(
    config: ModelConfig,
    variables: Variables,
    half_life_ms: float | Float[Array, ""] = jnp.inf,
) -> State:
    """Return the state of a stream that has seen nothing.

    Args:
        config: The model's configuration.
        variables: Its parameters (the state has their precision).
        half_life_ms: Sensor time in which a tick's weight in the readout halves.
    """
    return _beginning(config)(variables, half_life_ms)


@cache
def _beginning(config: ModelConfig) -> Any:
    return jax.jit(partial(Classifier(config).apply, method="init_state"))


def init_carry(
    config: ModelConfig,
    variables: Variables,
    half_life_ms: float | Float[Array, ""] = jnp.inf,
) -> Carry:
    """Return the carry of a session that has seen nothing; no slot axis."""
    return init_state(config, variables, half_life_ms).carry


def scan(
    config: ModelConfig,
    variables: Variables,
    tokens: Int[Array, " l"],
    dt_ms: Float[Array, " l"],
) -> Float[Array, " c"]:
    """Score a whole sequence; an incomplete last tick is not scored."""
    lengths = jnp.asarray([tokens.shape[0]])
    model = Classifier(config)
    return model.apply(variables, tokens[None], dt_ms[None], lengths, train=False)[0]


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
    return move_by_event(config, weights, state, token, dt_ms)


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
        weights: From `fold`.
        carry: The sessions' carries, leaves (s, ·).
        tokens: (s, k·R) for k ticks of R events.
        dt_ms: Integration timesteps, (s, k·R), ms.
        ticks: How many of its k ticks each session moves, (s,). A session with 0
            keeps its carry bit for bit.

    Returns:
        The carries, and the logits after each tick, (s, k, c); past a session's
        own ticks they repeat its last.
    """
    move = partial(_advance, config, weights)
    return in_portions(move, config.tick_events, carry, tokens, dt_ms, ticks)


def _advance(
    config: ModelConfig,
    weights: Weights,
    carry: Carry,
    tokens: Int[Array, "s l"],
    dt_ms: Float[Array, "s l"],
    ticks: Int[Array, " s"],
) -> tuple[Carry, Float[Array, "s k c"]]:
    inputs = embed(config, weights, tokens, dt_ms)
    moved, logits = advance_ticks(config, weights, carry, inputs, ticks)

    def keep_idle(old: Array, new: Array) -> Array:
        active = (ticks > 0).reshape(-1, *(1,) * (new.ndim - 1))
        return jnp.where(active, new, old)

    return jax.tree.map(keep_idle, carry, moved), logits

"""Three ways to run one model: `scan`, `step` and `advance`, equal by test.

| function | takes | for |
|---|---|---|
| `scan` | a whole sequence | evaluation, comparison |
| `step` | one token, one timestep, a `State` | the definition of online inference |
| `advance` | ticks × sessions, their carries | the server |

All are pure and can be jitted with `config` static.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from model.classifier import Carry, Classifier, State, Variables
from model.config import ModelConfig
from model.layer import Projected


class Weights(NamedTuple):
    """A model's parameters, and its first layer's projection of every token."""

    variables: Variables
    table: Projected


def fold(config: ModelConfig, variables: Variables) -> Weights:
    """Tabulate what depends on the token alone: its norm and its projection by B."""
    return Weights(variables, _call(config, variables, "table"))


def init_state(
    config: ModelConfig, variables: Variables, half_life_ms: float = jnp.inf
) -> State:
    """Return the state of a stream that has seen nothing.

    Args:
        config: The model's configuration.
        variables: Its parameters (the state has their precision).
        half_life_ms: Sensor time in which a tick's weight in the readout halves.
    """
    return _call(config, variables, "init_state", half_life_ms)


def init_carry(
    config: ModelConfig, variables: Variables, half_life_ms: float = jnp.inf
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
    projected = jax.tree.map(lambda rows: rows[token], weights.table)
    return _call(config, weights.variables, "step", state, projected, dt_ms)


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
    places = jnp.arange(tokens.shape[1]) // config.tick_events
    valid = places < ticks[:, None]
    dt_ms = jnp.where(valid, dt_ms, 0.0)
    projected = jax.tree.map(lambda rows: rows[tokens], weights.table)
    moved, logits = _call(
        config, weights.variables, "scan_ticks", carry, projected, dt_ms, valid
    )

    def keep_idle(old: Array, new: Array) -> Array:
        active = (ticks > 0).reshape(-1, *(1,) * (new.ndim - 1))
        return jnp.where(active, new, old)

    return jax.tree.map(keep_idle, carry, moved), logits


def _call(
    config: ModelConfig, variables: Variables, method: str, *arguments: Any
) -> Any:
    """Call a method of the classifier; Linen cannot tell what it returns."""
    return Classifier(config).apply(variables, *arguments, method=method)

"""Large calls in portions: a CPU does one after the other, each within its cache.

The bigger a batch, the more of what one operation writes has left the cache when the
next one reads it. An accelerator wants the whole batch at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

EVENTS_AT_ONCE: Final = 16384
"""What a CPU takes at a time: 64 sessions of one tick of 256 events, or alike."""

Move = Callable[[Any, Array, Array, Array], tuple[Any, Float[Array, "s k c"]]]
"""Carries, tokens, gaps and numbers of ticks to carries and logits: an `advance`."""


class Portion(NamedTuple):
    """What is done at a time: so many sessions, so many ticks of each."""

    rows: int
    ticks: int


def portion(rows: int, ticks: int, tick_events: int, most_events: int) -> Portion:
    """Return equal parts of a call that hold at most so many events, if ticks do.

    Sessions stay side by side rather than ticks: those must follow each other anyway.
    """
    together = _divisor(rows, most_events // tick_events)
    return Portion(together, _divisor(ticks, most_events // (tick_events * together)))


def in_portions(
    move: Move,
    tick_events: int,
    carry: Any,
    tokens: Int[Array, "s l"],
    dt_ms: Float[Array, "s l"],
    ticks: Int[Array, " s"],
) -> tuple[Any, Float[Array, "s k c"]]:
    """Move sessions by whole ticks, on a CPU a portion after the other.

    Args:
        move: Moves a portion.
        tick_events: R, events in a tick.
        carry: As `streaming.advance` takes it, and the rest likewise.
        tokens: (s, k·R).
        dt_ms: Likewise.
        ticks: How many of its k ticks each session moves.
    """
    rows, events = tokens.shape
    part = portion(rows, events // tick_events, tick_events, EVENTS_AT_ONCE)
    if part == (rows, events // tick_events):
        return move(carry, tokens, dt_ms, ticks)

    moved: tuple[Any, Array] = jax.lax.platform_dependent(
        carry,
        tokens,
        dt_ms,
        ticks,
        cpu=partial(_one_by_one, move, part, part.ticks * tick_events),
        default=move,
    )
    return moved


def _one_by_one(
    move: Move, part: Portion, chunk_events: int, *call: Any
) -> tuple[Any, Array]:
    """Move a portion's rows through all their chunks, then the next rows."""
    carry, tokens, dt_ms, ticks = call

    def by_rows(leaf: Array) -> Array:
        return leaf.reshape(-1, part.rows, *leaf.shape[1:])

    def some_rows(some: tuple[Any, Array, Array, Array]) -> tuple[Any, Array]:
        moved: tuple[Any, Array] = _in_turn(move, part.ticks, *some)
        return moved

    chunks = (x.reshape(len(ticks), -1, chunk_events) for x in (tokens, dt_ms))
    parts = jax.tree.map(by_rows, (carry, *chunks, ticks))
    joined: tuple[Any, Array] = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), jax.lax.map(some_rows, parts)
    )
    return joined


def _in_turn(
    move: Move, at_once: int, carry: Any, tokens: Array, dt_ms: Array, ticks: Array
) -> tuple[Any, Array]:
    """Move some sessions by `at_once` ticks, and again, to the end of what they have.

    Args:
        move: Moves them by as many.
        at_once: Ticks.
        carry: The sessions' carries.
        tokens: (s, n, ·), n times as many ticks; `dt_ms` likewise.
        dt_ms: Likewise.
        ticks: How many each session moves altogether, (s,).
    """

    def some_ticks(carry: Any, chunk: tuple[Array, Array, Array]) -> tuple[Any, Array]:
        tokens, dt_ms, before = chunk
        return move(carry, tokens, dt_ms, jnp.clip(ticks - before, 0, at_once))

    begun = at_once * jnp.arange(tokens.shape[1])
    chunks = jnp.moveaxis(tokens, 1, 0), jnp.moveaxis(dt_ms, 1, 0), begun
    carry, logits = jax.lax.scan(some_ticks, carry, chunks)
    rows, classes = tokens.shape[0], logits.shape[-1]
    return carry, jnp.moveaxis(logits, 0, 1).reshape(rows, -1, classes)


def _divisor(number: int, most: int) -> int:
    """Return the largest divisor that is at most `most`, or 1."""
    return max(n for n in range(1, number + 1) if number % n == 0 and n <= max(most, 1))

"""Cache blocking: on a CPU, a large call of `advance` runs block after block.

In a large batch, an operation's results have left the cache when the next operation
reads them. An accelerator runs the whole batch at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp

from saccade.model.array_types import Array, Float, Int
from saccade.model.cpu_caches import cache_bytes

EVENT_BYTES: Final = 1 << 11
"""Memory for each event of a block, of the widest published network."""
FEWEST_EVENTS: Final = 4096
"""Fewer events a block are more handing over than work."""
MOST_EVENTS: Final = 16384
"""More events a block are no faster, however large the cache."""


def most_events(cache_size: int) -> int:
    """Return how many events a block has: a power of two that fits the last cache."""
    fitting = max(cache_size // EVENT_BYTES, 1)
    return min(max(1 << (fitting.bit_length() - 1), FEWEST_EVENTS), MOST_EVENTS)


MAX_BLOCK_EVENTS: Final = most_events(cache_bytes(3))
"""Events in a block, at most: for example 64 sessions × one tick of 256 events."""

Move = Callable[[Any, Array, Array, Array], tuple[Any, Float[Array, "s k c"]]]
"""(carries, tokens, dt_ms, ticks) -> carries, logits: `advance` of some sessions."""


class BlockShape(NamedTuple):
    """The size of a block: sessions, and ticks of each."""

    rows: int
    ticks: int


def block_shape(
    rows: int, ticks: int, tick_events: int, most_events: int
) -> BlockShape:
    """Return the shape of equal blocks of at most `most_events`, but at least a tick.

    A block rather holds many sessions than many ticks, which run in sequence anyway.
    """
    together = _divisor(rows, most_events // tick_events)
    return BlockShape(
        together, _divisor(ticks, most_events // (tick_events * together))
    )


def advance_in_blocks(
    move: Move,
    tick_events: int,
    carry: Any,
    tokens: Int[Array, "s l"],
    dt_ms: Float[Array, "s l"],
    ticks: Int[Array, " s"],
) -> tuple[Any, Float[Array, "s k c"]]:
    """Move sessions by whole ticks, on a CPU block after block.

    Args:
        move: Moves a block.
        tick_events: R, events in a tick.
        carry: The sessions' carries, leaves (s, ·).
        tokens: (s, k·R).
        dt_ms: Integration timesteps, (s, k·R), ms.
        ticks: How many of its k ticks each session moves, (s,).

    Returns:
        As `inference.advance`.
    """
    rows, events = tokens.shape
    shape = block_shape(rows, events // tick_events, tick_events, MAX_BLOCK_EVENTS)
    if shape == (rows, events // tick_events):
        return move(carry, tokens, dt_ms, ticks)

    moved: tuple[Any, Array] = jax.lax.platform_dependent(
        carry,
        tokens,
        dt_ms,
        ticks,
        cpu=partial(_block_by_block, move, shape, shape.ticks * tick_events),
        default=move,
    )
    return moved


def _block_by_block(
    move: Move, shape: BlockShape, chunk_events: int, *call: Any
) -> tuple[Any, Array]:
    """Move a block's sessions through all their chunks, then the next sessions."""
    carry, tokens, dt_ms, ticks = call

    def by_rows(leaf: Array) -> Array:
        return leaf.reshape(-1, shape.rows, *leaf.shape[1:])

    def some_rows(some: tuple[Any, Array, Array, Array]) -> tuple[Any, Array]:
        moved: tuple[Any, Array] = _chunk_by_chunk(move, shape.ticks, *some)
        return moved

    chunks = (x.reshape(len(ticks), -1, chunk_events) for x in (tokens, dt_ms))
    parts = jax.tree.map(by_rows, (carry, *chunks, ticks))
    joined: tuple[Any, Array] = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), jax.lax.map(some_rows, parts)
    )
    return joined


def _chunk_by_chunk(
    move: Move, chunk_ticks: int, carry: Any, tokens: Array, dt_ms: Array, ticks: Array
) -> tuple[Any, Array]:
    """Move some sessions through n chunks of ticks, one after the other.

    Args:
        move: Moves the sessions by one chunk.
        chunk_ticks: Ticks in a chunk.
        carry: The sessions' carries.
        tokens: (s, n, ·).
        dt_ms: Integration timesteps, (s, n, ·), ms.
        ticks: How many ticks each session moves in all, (s,).
    """

    def some_ticks(carry: Any, chunk: tuple[Array, Array, Array]) -> tuple[Any, Array]:
        tokens, dt_ms, before = chunk
        return move(carry, tokens, dt_ms, jnp.clip(ticks - before, 0, chunk_ticks))

    begun = chunk_ticks * jnp.arange(tokens.shape[1])
    chunks = jnp.moveaxis(tokens, 1, 0), jnp.moveaxis(dt_ms, 1, 0), begun
    carry, logits = jax.lax.scan(some_ticks, carry, chunks)
    rows, classes = tokens.shape[0], logits.shape[-1]
    return carry, jnp.moveaxis(logits, 0, 1).reshape(rows, -1, classes)


def _divisor(number: int, most: int) -> int:
    """Return the largest divisor that is at most `most`, or 1."""
    return max(n for n in range(1, number + 1) if number % n == 0 and n <= max(most, 1))

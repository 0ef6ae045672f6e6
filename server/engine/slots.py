"""The pool's rows: one a slot, and one of scratch; and batches that move them.

A pool is one float32 array, `(slots + 1, width)`; see `model.state_rows`. The last row
belongs to no session: a copy to the host that is padded reads it. Rows that only fill a
batch up to its bucket have a number past the pool (`padding_rows`), and are not
written.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from saccade.model.array_types import Array, Float, Int
from saccade.server.engine.scheduler import Bucket

AnyArray: TypeAlias = Any
"""NumPy where a batch is packed, a tracer where the call is compiled."""


class PackedBatch(NamedTuple):
    """The events of one call, padded to a bucket.

    Attributes:
        rows: Which row of the pool each row of the batch moves.
        tokens: Events of each row, the oldest first.
        dt_ms: Integration timesteps of those events.
        ticks: By how many ticks each row moves; 0 for padding.
    """

    rows: Int[AnyArray, " s"]
    tokens: Int[AnyArray, "s l"]
    dt_ms: Float[AnyArray, "s l"]
    ticks: Int[AnyArray, " s"]


def packed_size(bucket: Bucket, tick_events: int) -> int:
    """Return the int32 words of a batch in one array."""
    return bucket.rows * (2 + 2 * bucket.ticks * tick_events)


def unpack(words: Int[AnyArray, " n"], bucket: Bucket) -> PackedBatch:
    """Return the parts of a batch that came as one array.

    In order: rows, ticks, tokens, and the bits of dt_ms. On NumPy arrays the parts are
    views, through which a batch is packed.
    """
    size = bucket.rows
    rows, ticks, events = words[:size], words[size : 2 * size], words[2 * size :]
    half = len(events) // 2
    tokens, bits = events[:half], events[half:]
    if isinstance(bits, np.ndarray):
        dt_ms: Any = bits.view(np.float32)
    else:
        dt_ms = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return PackedBatch(rows, tokens.reshape(size, -1), dt_ms.reshape(size, -1), ticks)


def make_pool(fresh: Float[Array, " w"], slots: int) -> Float[Array, "n w"]:
    """Return a pool whose `slots + 1` rows are all `fresh`."""
    return jnp.repeat(jnp.asarray(fresh)[None], slots + 1, axis=0)


def scratch_row(pool: Float[Array, "n w"]) -> int:
    """Return the index of the row that no session owns."""
    return int(pool.shape[0]) - 1


def padding_rows(slots: int, count: int) -> npt.NDArray[np.int32]:
    """Return numbers for rows of a batch that are no session's: past the pool."""
    return np.arange(slots + 1, slots + 1 + count, dtype=np.int32)


def insert(
    pool: Float[Array, "n w"], row: Int[Array, ""], numbers: Float[Array, " w"]
) -> Float[Array, "n w"]:
    """Write one session's numbers into a row."""
    return pool.at[row].set(numbers)


def extract(pool: Float[Array, "n w"], rows: Int[Array, " m"]) -> Float[Array, "m w"]:
    """Read rows of the pool."""
    return pool[rows]

"""Ahead-of-time compilation of every shape that the engine runs, and its verification.

Compilers have faults that depend on the batch's shape. So a model carries a canary,
a short stream with its scores, and each bucket must reproduce those scores, in every
row, before the model is served.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxlib.version import __version__ as jaxlib_version

from saccade.server.engine.errors import CanaryMismatch
from saccade.server.engine.model_registry import Advance, PyTree, Servable
from saccade.server.engine.scheduler import Bucket
from saccade.server.engine.slots import (
    PackedBatch,
    advance_rows,
    extract,
    insert,
    make_pool,
    packed_size,
    scratch_row,
    unpack,
)

CANARY_TOLERANCE: Final = 1e-3
"""Largest error allowed, relative to the largest score; leaves room for TF32."""

WHOLE_SESSION: Final = np.float32(np.inf)
"""The half-life of a readout that forgets nothing."""


EXPORT_ROWS: Final = (1, 16, 256)
"""How many rows one call reads; a larger one serves for fewer."""


class Executables(NamedTuple):
    """Compiled calls; a shape that was not compiled raises and never recompiles.

    Attributes:
        fresh: half_life_ms -> one session's carry.
        insert: (pool, row, carry) -> pool; the pool is donated.
        extract: By a number of rows, (pool, rows) -> their numbers; see
            `slots.extract`.
        advance: By bucket, (weights, pool, words) -> (pool, logits), where the words
            are a batch in one array; the pool is donated.
    """

    fresh: Callable[[np.float32], PyTree]
    insert: Callable[[PyTree, np.int32, PyTree], PyTree]
    extract: Mapping[int, Callable[..., dict[str, Any]]]
    advance: Mapping[Bucket, Callable[..., tuple[PyTree, Any]]]


def compile_all(
    servable: Servable,
    slots: int,
    buckets: tuple[Bucket, ...],
    progress: Callable[[str], None],
) -> tuple[Executables, PyTree]:
    """Compile every call for a pool of this size; return the calls and the pool."""
    progress("fresh rows")
    fresh = jax.jit(servable.fresh).lower(_shape((), jnp.float32)).compile()
    carry = fresh(WHOLE_SESSION)
    pool = make_pool(carry, slots)
    row = _shape((), jnp.int32)
    inserting = jax.jit(insert, donate_argnums=0).lower(pool, row, carry).compile()

    def compile_bucket(bucket: Bucket) -> Callable[..., tuple[PyTree, Any]]:
        progress(f"bucket {bucket}")
        words = _shape((packed_size(bucket, servable.tick_events),), jnp.int32)
        step = bucket_call(servable, bucket).lower(servable.weights, pool, words)
        compiled: Callable[..., tuple[PyTree, Any]] = step.compile()
        return compiled

    def compile_extract(rows: int) -> Callable[..., dict[str, Any]]:
        return jax.jit(extract).lower(pool, _shape((rows,), jnp.int32)).compile()

    with ThreadPoolExecutor(min(len(buckets), os.cpu_count() or 1)) as threads:
        advancing = dict(
            zip(buckets, threads.map(compile_bucket, buckets), strict=True)
        )
        extracting = dict(
            zip(EXPORT_ROWS, threads.map(compile_extract, EXPORT_ROWS), strict=True)
        )
    return Executables(fresh, inserting, extracting, advancing), pool


def bucket_call(servable: Servable, bucket: Bucket) -> Any:
    """Return the jitted (weights, pool, words) -> (pool, logits) of a bucket.

    `words` are a batch in one array; the pool is donated.
    """
    move = partial(advance_rows, servable.advance)
    if servable.advance_rows:
        move = partial(_in_place, servable.advance_rows)
    return jax.jit(partial(_unpack_first, move, bucket), donate_argnums=1)


def _unpack_first(
    move: Callable[..., tuple[PyTree, Any]],
    bucket: Bucket,
    weights: PyTree,
    pool: PyTree,
    words: Any,
) -> tuple[PyTree, Any]:
    return move(weights, pool, unpack(words, bucket))


def _in_place(
    move: Advance, weights: PyTree, pool: PyTree, batch: PackedBatch
) -> tuple[PyTree, Any]:
    return move(weights, pool, *batch)


def keep_compiled(folder: Path) -> None:
    """Cache compiled calls in a folder, so that the next start loads them from there.

    A call from the cache must reproduce the canary like a freshly compiled one.
    """
    set_option = partial(jax.config.update)
    set_option("jax_compilation_cache_dir", str(folder))
    set_option("jax_persistent_cache_min_compile_time_secs", 0.0)


def check_canary(servable: Servable, executables: Executables, pool: PyTree) -> PyTree:
    """Run the canary through every bucket; return the pool, whose rows it has moved.

    Raises:
        CanaryMismatch: A bucket's scores are not the stored ones.
    """
    expected = np.asarray(servable.canary.logits, np.float64)
    scale = max(float(np.abs(expected).max()), 1e-30)
    for bucket in executables.advance:
        pool, logits = _run_canary(servable, executables, pool, bucket)
        error = float(np.abs(logits - expected).max()) / scale
        if not error <= CANARY_TOLERANCE:  # a NaN must fail too
            raise CanaryMismatch(servable.name, str(bucket), platform(), error)
    return pool


def platform() -> str:
    """Name the backend and its version, as in `cpu, jaxlib 0.10.1`."""
    return f"{jax.default_backend()}, jaxlib {jaxlib_version}"


def _run_canary(
    servable: Servable, executables: Executables, pool: PyTree, bucket: Bucket
) -> tuple[PyTree, npt.NDArray[np.float64]]:
    """Run the canary in every row of a bucket; return each row's last scores."""
    rows = np.arange(bucket.rows, dtype=np.int32)
    rows = np.minimum(rows, scratch_row(pool))
    carry = executables.fresh(WHOLE_SESSION)
    for row in np.unique(rows):
        pool = executables.insert(pool, row, carry)
    size = servable.tick_events
    total = len(servable.canary.tokens) // size
    for start in range(0, total, bucket.ticks):
        ticks = min(bucket.ticks, total - start)
        piece = slice(start * size, (start + ticks) * size)
        batch = _repeat(bucket, rows, servable, piece)
        pool, logits = executables.advance[bucket](servable.weights, pool, batch)
    owned = rows < scratch_row(pool)
    return pool, np.asarray(logits, np.float64)[owned, ticks - 1]


def _repeat(
    bucket: Bucket, rows: npt.NDArray[np.int32], servable: Servable, piece: slice
) -> npt.NDArray[np.int32]:
    """Return a batch, in one array, whose rows all hold a piece of the canary."""
    words = np.zeros(packed_size(bucket, servable.tick_events), np.int32)
    batch, events = unpack(words, bucket), piece.stop - piece.start
    batch.rows[:] = rows
    batch.ticks[:] = events // servable.tick_events
    batch.tokens[:, :events] = servable.canary.tokens[piece]
    batch.dt_ms[:, :events] = servable.canary.dt_ms[piece]
    return words


def _shape(shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]

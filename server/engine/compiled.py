"""Ahead-of-time compilation of every shape that the engine runs, and its verification.

Compilers have faults that depend on the batch's shape. So a model carries a canary,
a short stream with its scores, and each bucket must reproduce those scores, in every
row, before the model is served. On an accelerator the canary's calls are timed, too:
what a launch costs beside the work decides how sessions are batched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import SingleDeviceSharding
from jaxlib.version import __version__ as jaxlib_version

from saccade.model.backends import InPlace
from saccade.model.state_rows import RowLayout, advance_rows
from saccade.server.cpu_time import cpu_time
from saccade.server.engine.errors import CanaryMismatch
from saccade.server.engine.health import CanaryResult
from saccade.server.engine.model_registry import Advance, PyTree, Servable
from saccade.server.engine.scheduler import Bucket
from saccade.server.engine.slots import (
    extract,
    insert,
    make_pool,
    packed_size,
    padding_rows,
    scratch_row,
    unpack,
)

CANARY_TOLERANCES: Final[Mapping[str, float]] = {
    "float32": 1e-4,
    "tf32": 5e-3,
    "bfloat16": 5e-2,
}
"""Largest error allowed, relative to the largest score, by a model's precision."""

TIMED_CALLS: Final = 3
"""Calls of a bucket that are timed; the fastest counts."""

WHOLE_SESSION: Final = np.float32(np.inf)
"""The half-life of a readout that forgets nothing."""


QUICK_TICKS: Final = 16
"""Ticks of a call that a front end makes itself, at most, however quick it were: each
tick has its result, which takes the same thread as long."""

EXPORT_ROWS: Final = (1, 16, 256)
"""How many rows one call reads; a larger one serves for fewer."""


class Executables(NamedTuple):
    """Compiled calls; a shape that was not compiled raises and never recompiles.

    Attributes:
        layout: Of the pool's rows.
        fresh: half_life_ms -> a new session's numbers, (w,).
        insert: (pool, row, numbers) -> pool; the pool is donated.
        extract: By a number of rows, (pool, rows) -> their numbers, (rows, w).
        advance: By bucket, (weights, pool, words) -> (pool, logits), where the words
            are a batch in one array; the pool is donated.
        new_pool: (numbers, slots) -> a pool whose rows all hold these numbers.
        quick: As `advance`, in shapes of one row, for another thread than the device's:
            it keeps Python's lock meanwhile. Empty where no call is so quick.
        quick_ticks: Ticks of the largest of them.
    """

    layout: RowLayout
    fresh: Callable[[np.float32], Any]
    insert: Callable[[Any, np.int32, Any], Any]
    extract: Mapping[int, Callable[..., Any]]
    advance: Mapping[Bucket, Callable[..., tuple[Any, Any]]]
    new_pool: Callable[[Any, int], Any] = make_pool
    quick: Mapping[Bucket, Callable[..., tuple[Any, Any]]] = MappingProxyType({})
    quick_ticks: int = 0


def compile_all(
    servable: Servable,
    slots: int,
    buckets: tuple[Bucket, ...],
    progress: Callable[[str], None],
) -> tuple[Executables, Any]:
    """Compile every call for a pool of this size; return the calls and the pool.

    Raises:
        TypeError: A leaf of the model's carry is neither float32 nor complex64.
    """
    progress("fresh rows")
    half_life_ms = _shape((), jnp.float32, servable.device)
    layout = RowLayout(jax.eval_shape(servable.fresh, half_life_ms))
    begin = partial(_fresh_row, servable, layout)
    fresh = jax.jit(begin).lower(half_life_ms).compile()
    numbers = fresh(WHOLE_SESSION)
    if servable.in_place is not None:
        executables = _in_place(servable.in_place, layout, fresh, slots, buckets)
        return executables, executables.new_pool(numbers, slots)
    pool = make_pool(numbers, slots)
    row = _shape((), jnp.int32)
    inserting = jax.jit(insert, donate_argnums=0).lower(pool, row, numbers).compile()

    def compile_bucket(bucket: Bucket) -> Callable[..., tuple[Any, Any]]:
        progress(f"bucket {bucket}")
        words = _shape((packed_size(bucket, servable.tick_events),), jnp.int32)
        step = bucket_call(servable, layout, bucket)
        lowered = step.lower(servable.weights, pool, words)
        compiled: Callable[..., tuple[Any, Any]]
        compiled = lowered.compile(servable.compiler_options)
        return compiled

    def compile_extract(rows: int) -> Callable[..., Any]:
        return jax.jit(extract).lower(pool, _shape((rows,), jnp.int32)).compile()

    with ThreadPoolExecutor(min(len(buckets), cpu_time().threads)) as threads:
        advancing = dict(
            zip(buckets, threads.map(compile_bucket, buckets), strict=True)
        )
        extracting = dict(
            zip(EXPORT_ROWS, threads.map(compile_extract, EXPORT_ROWS), strict=True)
        )
    return Executables(layout, fresh, inserting, extracting, advancing), pool


def _in_place(
    in_place: InPlace,
    layout: RowLayout,
    fresh: Callable[[np.float32], Any],
    slots: int,
    buckets: tuple[Bucket, ...],
) -> Executables:
    """Return calls on NumPy's arrays: of them, only `fresh` is XLA's."""

    def in_bucket(
        bucket: Bucket, *, keeps_lock: bool = False
    ) -> Callable[..., tuple[Any, Any]]:
        call = in_place.call(slots + 1, *bucket, keeps_lock=keeps_lock)

        def advance(weights: Any, pool: Any, words: Any) -> tuple[Any, Any]:
            return pool, call(np.asarray(weights), pool, *unpack(words, bucket))

        return advance

    most = min(in_place.quick_ticks, QUICK_TICKS)
    quick = {Bucket(1, ticks) for ticks in (1, most) if most}
    return Executables(
        layout=layout,
        fresh=fresh,
        insert=_insert_in_place,
        extract=dict.fromkeys(EXPORT_ROWS, extract),
        advance={bucket: in_bucket(bucket) for bucket in buckets},
        new_pool=_new_pool_in_place,
        quick={bucket: in_bucket(bucket, keeps_lock=True) for bucket in quick},
        quick_ticks=most,
    )


def _insert_in_place(pool: Any, row: np.int32, numbers: Any) -> Any:
    pool[row] = np.asarray(numbers)
    return pool


def _new_pool_in_place(numbers: Any, slots: int) -> npt.NDArray[np.float32]:
    return np.repeat(np.asarray(numbers, np.float32)[None], slots + 1, axis=0)


def _fresh_row(servable: Servable, layout: RowLayout, half_life_ms: Any) -> Any:
    return layout.to_rows(servable.fresh(half_life_ms))


def bucket_call(servable: Servable, layout: RowLayout, bucket: Bucket) -> Any:
    """Return the jitted (weights, pool, words) -> (pool, logits) of a bucket.

    `words` are a batch in one array; the pool is donated.
    """
    move = servable.advance_rows or partial(advance_rows, servable.advance, layout)
    return jax.jit(partial(_unpack_first, move, bucket), donate_argnums=1)


def _unpack_first(
    move: Advance, bucket: Bucket, weights: PyTree, pool: Any, words: Any
) -> tuple[Any, Any]:
    return move(weights, pool, *unpack(words, bucket))


def keep_compiled(folder: Path) -> None:
    """Cache compiled calls in a folder, so that the next start loads them from there.

    A call from the cache must reproduce the canary like a freshly compiled one.
    """
    set_option = partial(jax.config.update)
    set_option("jax_compilation_cache_dir", str(folder))
    set_option("jax_persistent_cache_min_compile_time_secs", 0.0)


def check_canary(servable: Servable, executables: Executables, pool: Any) -> Any:
    """Run the canary through every bucket; return the pool, whose rows it has moved.

    Raises:
        CanaryMismatch: A bucket's scores are not the stored ones.
    """
    return play_canary(servable, executables, pool)[0]


def play_canary(
    servable: Servable, executables: Executables, pool: Any
) -> tuple[Any, CanaryResult]:
    """Run `check_canary`; return the largest error of any bucket, too.

    Raises:
        CanaryMismatch: A bucket's scores are not the stored ones.
    """
    precision = servable.matmul_precision
    tolerance = CANARY_TOLERANCES[precision]
    expected = np.asarray(servable.canary.logits, np.float64)
    scale, worst = max(float(np.abs(expected).max()), 1e-30), 0.0
    for bucket in executables.advance:
        pool, logits = _run_canary(servable, executables, pool, bucket)
        error = float(np.abs(logits - expected).max()) / scale
        if not error <= tolerance:  # a NaN must fail too
            missed = str(bucket), platform(), error, precision
            raise CanaryMismatch(servable.name, *missed)
        worst = max(worst, error)
    return pool, CanaryResult(precision, worst)


def time_calls(
    servable: Servable, executables: Executables, pool: Any
) -> tuple[Any, dict[Bucket, float]]:
    """Run the canary's first ticks in every bucket again.

    Returns:
        The pool, whose rows have moved, and by bucket the seconds from a launch until
        its scores are there.
    """
    seconds: dict[Bucket, float] = {}
    total = len(servable.canary.tokens) // servable.tick_events
    for bucket, call in executables.advance.items():
        used = min(bucket.rows, scratch_row(pool))
        piece = slice(min(bucket.ticks, total) * servable.tick_events)
        words, taken = _repeat(bucket, used, servable, piece), []
        for _ in range(TIMED_CALLS):
            began_s = time.perf_counter()
            pool, logits = call(servable.weights, pool, words)
            np.asarray(logits)
            taken.append(time.perf_counter() - began_s)
        seconds[bucket] = min(taken)
    return pool, seconds


def platform() -> str:
    """Name the backend and its version, as in `cpu, jaxlib 0.10.1`."""
    return f"{jax.default_backend()}, jaxlib {jaxlib_version}"


def _run_canary(
    servable: Servable, executables: Executables, pool: Any, bucket: Bucket
) -> tuple[Any, npt.NDArray[np.float64]]:
    """Run the canary in every row of a bucket; return each row's last scores."""
    used = min(bucket.rows, scratch_row(pool))
    fresh = executables.fresh(WHOLE_SESSION)
    for row in range(used):
        pool = executables.insert(pool, np.int32(row), fresh)
    size = servable.tick_events
    total = len(servable.canary.tokens) // size
    for start in range(0, total, bucket.ticks):
        ticks = min(bucket.ticks, total - start)
        piece = slice(start * size, (start + ticks) * size)
        batch = _repeat(bucket, used, servable, piece)
        pool, logits = executables.advance[bucket](servable.weights, pool, batch)
    return pool, np.asarray(logits, np.float64)[:used, ticks - 1]


def _repeat(
    bucket: Bucket, used: int, servable: Servable, piece: slice
) -> npt.NDArray[np.int32]:
    """Return a batch, in one array, whose used rows hold a piece of the canary."""
    words = np.zeros(packed_size(bucket, servable.tick_events), np.int32)
    batch, events = unpack(words, bucket), piece.stop - (piece.start or 0)
    batch.rows[:used] = np.arange(used)
    batch.rows[used:] = padding_rows(used, bucket.rows - used)
    batch.ticks[:used] = events // servable.tick_events
    batch.tokens[:used, :events] = servable.canary.tokens[piece]
    batch.dt_ms[:used, :events] = servable.canary.dt_ms[piece]
    return words


def _shape(shape: tuple[int, ...], dtype: Any, device: Any = None) -> Any:
    """Describe an argument; what is computed from it alone is on its device."""
    where = None if device is None else SingleDeviceSharding(device)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=where)  # type: ignore[no-untyped-call]

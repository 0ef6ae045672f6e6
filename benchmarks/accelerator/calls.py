"""The engine's compiled calls: how long they compile, what they score, how fast."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from benchmarks.accelerator import network
from benchmarks.accelerator.ceilings import Result, in_turn_s, percentiles
from benchmarks.accelerator.expected import TOLERANCE, Expected
from benchmarks.accelerator.network import CONFIG
from benchmarks.accelerator.sizes import Sizes
from saccade.server.engine.compiled import (
    WHOLE_SESSION,
    Executables,
    bucket_call,
    compile_all,
)
from saccade.server.engine.model_registry import PyTree, Servable
from saccade.server.engine.scheduler import Bucket
from saccade.server.engine.slots import packed_size, unpack

DISTINCT: Final = 8
"""Batches that are taken in turn, so that no cache holds what the last one read."""

Words = npt.NDArray[np.int32]


class Calls:
    """A network's calls, and the pool that they move in place.

    Args:
        servable: The network.
        executables: Its compiled calls.
        pool: The rows.
    """

    def __init__(
        self, servable: Servable, executables: Executables, pool: PyTree
    ) -> None:
        self.servable = servable
        self.executables = executables
        self._pool = pool

    def reset(self, rows: int) -> None:
        """Begin a new session in each of the first rows."""
        carry = self.executables.fresh(WHOLE_SESSION)
        for row in range(rows):
            self._pool = self.executables.insert(self._pool, np.int32(row), carry)

    def variant(self, servable: Servable, advance: Mapping[Bucket, Any]) -> Calls:
        """Return other calls of the same shapes, with a pool of their own."""
        pool = jax.tree.map(jnp.copy, self._pool)
        return Calls(servable, self.executables._replace(advance=advance), pool)

    def trace(self, servable: Servable, bucket: Bucket) -> Any:
        """Return a bucket of another servable of the same state, to be compiled."""
        words = packed(bucket, [])
        call = bucket_call(servable, self.executables.layout, bucket)
        return call.trace(servable.weights, self._pool, words)

    def advance(self, bucket: Bucket, words: Any) -> Any:
        """Launch a call; return its scores, which may not be ready yet."""
        run = self.executables.advance[bucket]
        self._pool, scores = run(self.servable.weights, self._pool, words)
        return scores


class CompileTimes:
    """Receives what is compiled from then on, and how long each thread takes."""

    def __init__(self) -> None:
        self._part: dict[int, str] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def begin(self, part: str) -> None:
        """Note that the calling thread compiles this part now."""
        self._part[threading.get_ident()] = part

    def add(self, event: str, duration_secs: float, **_: str | int) -> None:
        """Take a duration that JAX reports."""
        part = self._part.get(threading.get_ident())
        if part is not None and event.startswith("/jax/core/compile/"):
            self.seconds[part] += duration_secs


class Compiled(NamedTuple):
    """The calls, and what their compilation took.

    Attributes:
        calls: The calls.
        seconds: By part; those of several buckets overlap.
        wall_s: All of it.
    """

    calls: Calls
    seconds: dict[str, float]
    wall_s: float


def compiled(
    servable: Servable, sizes: Sizes, progress: Callable[[str], None]
) -> Compiled:
    """Compile a network's calls as a server does."""
    times, began_s = CompileTimes(), time.perf_counter()
    jax.monitoring.register_event_duration_secs_listener(times.add)

    def begin(part: str) -> None:
        progress(part)
        times.begin(part)

    if servable.prepare:
        preparing_s = time.perf_counter()
        servable.prepare(lambda _: None)
        times.seconds["native code"] = time.perf_counter() - preparing_s
    executables, pool = compile_all(servable, sizes.slots, sizes.buckets, begin)
    jax.monitoring.unregister_event_duration_listener(times.add)
    wall_s = time.perf_counter() - began_s
    return Compiled(Calls(servable, executables, pool), dict(times.seconds), wall_s)


def check(calls: Calls, expected: Expected) -> Result:
    """Compare every bucket's scores with the file's, row by row and tick by tick."""
    errors = {
        str(bucket): error_of(calls, bucket, expected)
        for bucket in calls.executables.advance
    }
    wrong = [name for name, error in errors.items() if not error <= TOLERANCE]
    return {"tolerance": TOLERANCE, "errors": errors, "wrong": wrong}


def error_of(calls: Calls, bucket: Bucket, expected: Expected) -> float:
    """Return a bucket's largest error, relative to the largest score."""
    calls.reset(bucket.rows)
    rows = [expected.of_row(row, bucket.rows) for row in range(bucket.rows)]
    total = len(rows[0][1])
    found = []
    for begin in range(0, total, bucket.ticks):
        ticks = min(bucket.ticks, total - begin)
        part = begin * CONFIG.tick_events, (begin + ticks) * CONFIG.tick_events
        parts = [events.part(*part) for events, _ in rows]
        scores = np.asarray(calls.advance(bucket, packed(bucket, parts)))
        found.append(scores[: bucket.rows, :ticks])
    truth = np.stack([scores for _, scores in rows]).astype(np.float64)
    deviation = np.abs(np.concatenate(found, axis=1).astype(np.float64) - truth)
    return float(deviation.max()) / expected.scale


def packed(bucket: Bucket, parts: list[network.Stream]) -> Words:
    """Return a batch whose row k holds part k, in one array."""
    words = np.zeros(packed_size(bucket, CONFIG.tick_events), np.int32)
    batch = unpack(words, bucket)
    batch.rows[:] = np.arange(bucket.rows)
    for row, part in enumerate(parts):
        batch.ticks[row] = len(part.tokens) // CONFIG.tick_events
        batch.tokens[row, : len(part.tokens)] = part.tokens
        batch.dt_ms[row, : len(part.tokens)] = part.dt_ms
    return words


def batches(bucket: Bucket) -> list[Words]:
    """Return several full batches of a bucket, of other events each."""
    size = bucket.ticks * CONFIG.tick_events
    events = network.stream(0, DISTINCT * bucket.rows * size)
    begins = range(0, len(events.tokens), size)
    parts = [events.part(begin, begin + size) for begin in begins]
    return [
        packed(bucket, parts[k : k + bucket.rows])
        for k in range(0, len(parts), bucket.rows)
    ]


def speed(calls: Calls, bucket: Bucket, seconds: float) -> Result:
    """Time a bucket.

    Returns:
        `device`: events in an array of the device, scores left there: the time of a
        call in a row of calls, and the latency of a single one. `host`: NumPy's array
        in, NumPy's array of scores out.
    """
    words = batches(bucket)
    there = cycle([jax.device_put(each) for each in words])
    here: Iterator[Words] = cycle(words)
    calls.reset(bucket.rows)
    events = bucket.rows * bucket.ticks * CONFIG.tick_events
    in_turn = in_turn_s(lambda: calls.advance(bucket, next(there)), seconds / 3)
    alone = percentiles(lambda: calls.advance(bucket, next(there)), seconds / 3)
    whole = percentiles(
        lambda: np.asarray(calls.advance(bucket, next(here))), seconds / 3
    )
    return {
        "events": events,
        "device": {
            "in_turn_ms": 1e3 * in_turn,
            "events_per_s": events / in_turn,
            **alone,
        },
        "host": {"events_per_s": 1e3 * events / whole["p50_ms"], **whole},
    }

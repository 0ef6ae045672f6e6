"""A real network in every bucket that a server compiles by default."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from saccade.model.backends import BACKENDS
from saccade.model.classifier import fold, init_carry, scan
from saccade.server.engine.compiled import WHOLE_SESSION, Executables, compile_all
from saccade.server.engine.model_registry import Canary, Servable
from saccade.server.engine.scheduler import Bucket, buckets_for
from saccade.server.engine.slots import PackedBatch, packed_size, unpack
from tests.model.variants import VARIANTS, random_variables

CONFIG = VARIANTS[0]
TICK = CONFIG.tick_events
SLOTS = 64
BUCKETS = buckets_for("cpu", SLOTS, TICK)
TOLERANCE = 2e-5  # of max |logit|, float32


class Served:
    """The network's compiled calls and the pool that they move."""

    def __init__(self, execution: str) -> None:
        self.variables = jax.device_put(random_variables(CONFIG))
        backend = BACKENDS[execution](CONFIG, fold(CONFIG, self.variables))
        self.weights, in_rows = backend.weights, backend.advance_rows
        nothing = np.zeros(TICK)
        servable = Servable(
            name="network",
            tick_events=TICK,
            classes=CONFIG.num_classes,
            weights=self.weights,
            fresh=partial(init_carry, CONFIG, self.variables),
            advance=partial(backend.advance, CONFIG),
            canary=Canary(
                nothing.astype(np.int32), nothing.astype(np.float32), nothing
            ),
            advance_rows=partial(in_rows, CONFIG) if in_rows else None,
        )
        self.calls: Executables
        self.calls, self.pool = compile_all(servable, SLOTS, BUCKETS, lambda _: None)
        self.scan = jax.jit(partial(scan, CONFIG))

    def run(self, bucket: Bucket, batch: PackedBatch) -> Any:
        """Begin a session in every row of the batch and move it."""
        fresh = self.calls.fresh(WHOLE_SESSION)
        for row in batch.rows:
            self.pool = self.calls.insert(self.pool, row, fresh)
        call = self.calls.advance[bucket]
        words = np.zeros(packed_size(bucket, TICK), np.int32)
        for part, value in zip(unpack(words, bucket), batch, strict=True):
            part[...] = value
        self.pool, logits = call(self.weights, self.pool, words)
        self.calls.extract[1](self.pool, batch.rows[:1])
        return np.asarray(logits)


# The engine's own tests do it with a toy model, as a program of XLA's.
@pytest.fixture(
    scope="module", params=["fastest", pytest.param("xla", marks=pytest.mark.slow)]
)
def served(request: pytest.FixtureRequest) -> Served:
    return Served(request.param)


def drawn(bucket: Bucket) -> PackedBatch:
    """Draw a full batch, each row with its own events and some whole ticks."""
    rng = np.random.default_rng(bucket.rows)
    size = (bucket.rows, bucket.ticks * TICK)
    return PackedBatch(
        rows=rng.permutation(SLOTS)[: bucket.rows].astype(np.int32),
        tokens=rng.integers(0, CONFIG.num_embeddings, size).astype(np.int32),
        dt_ms=rng.exponential(1.0, size).astype(np.float32),
        ticks=rng.integers(1, bucket.ticks + 1, bucket.rows).astype(np.int32),
    )


@pytest.mark.parametrize("bucket", BUCKETS, ids=str)
def test_every_row_of_a_bucket_scores_as_the_whole_sequence_does(
    served: Served, bucket: Bucket
) -> None:
    batch = drawn(bucket)
    logits = served.run(bucket, batch)
    for row in range(0, bucket.rows, 7):
        ticks = int(batch.ticks[row])
        events = slice(ticks * TICK)
        tokens, dt_ms = batch.tokens[row, events], batch.dt_ms[row, events]
        expected = np.asarray(served.scan(served.variables, tokens, dt_ms))
        error = np.abs(logits[row, ticks - 1] - expected).max()
        assert error <= TOLERANCE * np.abs(expected).max()


def test_no_bucket_compiles_anything_when_it_runs(served: Served) -> None:
    compiled: list[str] = []

    def listen(event: str, _seconds: float, **_: Any) -> None:
        if "compile" in event:
            compiled.append(event)

    batches = {bucket: drawn(bucket) for bucket in BUCKETS}
    jax.monitoring.register_event_duration_secs_listener(listen)
    for bucket, batch in batches.items():
        served.run(bucket, batch)
    assert compiled == []
    jax.jit(lambda x: x * 5)(np.ones(5))
    assert compiled, "the listener is called"

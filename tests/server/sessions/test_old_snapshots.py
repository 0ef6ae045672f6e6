"""Snapshots that earlier servers wrote."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model.backends import BACKENDS
from saccade.model.classifier import fold, init_carry, scan
from saccade.model.tokens import TokenChunk
from saccade.server.engine.model_registry import Canary, Servable
from saccade.server.sessions.snapshots import decode
from tests.model.variants import VARIANTS, random_variables
from tests.toy import running

CONFIG = VARIANTS[1]
TICK = CONFIG.tick_events
OLD = Path(__file__).with_name("snapshot_0_1_0.msgpack")
"""Written when each leaf was an array of the pool: a session of `random_variables`,
half-life 50 ms, after 7 ticks and 4 events of `drawn(0)`."""
MORE = 3 * TICK


def drawn(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw tokens, and gaps of whole microseconds, in ms."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(CONFIG.num_embeddings, size=count, dtype=np.int32)
    gaps_us = np.round(rng.exponential(1.0, count) * 1000)
    return tokens, (gaps_us / 1000).astype(np.float32)


def chunk(tokens: np.ndarray, gaps: np.ndarray) -> TokenChunk:
    return TokenChunk(tokens, gaps, np.cumsum(gaps * 1000).astype(np.int64))


@pytest.mark.parametrize("execution", [*BACKENDS])
def test_a_snapshot_from_before_the_pool_was_one_array_goes_on(execution: str) -> None:
    variables = jax.device_put(random_variables(CONFIG))
    backend = BACKENDS[execution](CONFIG, fold(CONFIG, variables))
    first, later = drawn(0, 7 * TICK + 4), drawn(1, MORE)
    canary = tuple(part[:TICK] for part in first)
    scores = scan(CONFIG, variables, *map(jnp.asarray, canary))
    servable = Servable(
        name="network",
        tick_events=TICK,
        classes=CONFIG.num_classes,
        weights=backend.weights,
        fresh=partial(init_carry, CONFIG, variables),
        advance=partial(backend.advance, CONFIG),
        canary=Canary(*canary, np.asarray(scores)),
        advance_rows=partial(backend.advance_rows, CONFIG)
        if backend.advance_rows
        else None,
    )
    row = decode(OLD.read_bytes()).row
    assert row is not None
    assert {str(leaf.dtype) for leaf in row.leaves} == {"complex64", "float32"}
    with running(servable) as (engine, recorder):
        whole = engine.open("network", 50.0)
        engine.submit(whole, chunk(*first))
        engine.submit(whole, chunk(*later))
        again = engine.restore("network", row)
        engine.submit(again, chunk(*later))
        recorder.wait(lambda: len(recorder.scores(whole)) == 10)
        recorder.wait(lambda: len(recorder.scores(again)) == 3)
        expected, found = recorder.scores(whole)[-3:], recorder.scores(again)
        scale = max(map(abs, recorder.scores(whole)))
    assert found == pytest.approx(expected, abs=2e-5 * scale)

"""Cache blocking changes no result."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model import cache_blocking, classifier, inference
from saccade.model.cache_blocking import block_shape
from saccade.model.classifier import initialize
from tests.model.variants import VARIANTS

CONFIG = VARIANTS[0]
TICK = CONFIG.tick_events


@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.integers(0, 20000)
)
def test_blocks_are_equal_and_no_larger_than_the_limit(
    rows: int, ticks: int, tick_events: int, most_events: int
) -> None:
    part = block_shape(rows, ticks, tick_events, most_events)
    assert rows % part.rows == ticks % part.ticks == 0
    if part != (1, 1):
        assert part.rows * part.ticks * tick_events <= most_events


def test_a_call_within_the_limit_is_one_block() -> None:
    assert block_shape(64, 1, 256, 16384) == (64, 1)
    assert block_shape(1, 64, 256, 16384) == (1, 64)
    assert block_shape(7, 3, 100, 2100) == (7, 3)


def test_a_block_holds_many_sessions_rather_than_many_ticks() -> None:
    assert block_shape(8, 16, 256, 16384) == (8, 8)
    assert block_shape(256, 16, 256, 16384) == (64, 1)


@pytest.mark.parametrize("most", [1, 6], ids=lambda most: f"{most} ticks")
def test_a_call_in_blocks_moves_sessions_as_a_call_in_one_block(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some sessions rest, some stop inside a block, some before their last."""
    variables = initialize(CONFIG, jax.random.key(0))
    fresh = classifier.init_carry(CONFIG, variables)
    carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), fresh)
    rng = np.random.default_rng(0)
    tokens = rng.integers(CONFIG.num_embeddings, size=(4, 6 * TICK)).astype(np.int32)
    dt_ms = rng.exponential(1.0, tokens.shape).astype(np.float32)
    ticks = np.array([6, 0, 3, 1])

    def move(most_events: int) -> Any:
        monkeypatch.setattr(cache_blocking, "MAX_BLOCK_EVENTS", most_events)
        advance = jax.jit(partial(inference.advance, CONFIG))
        weights = classifier.fold(CONFIG, variables)
        return advance(weights, carry, tokens, dt_ms, ticks)

    cut, whole = move(most * TICK), move(24 * TICK)
    for some, other in zip(*map(jax.tree.leaves, (cut, whole)), strict=True):
        np.testing.assert_allclose(some, other, rtol=2e-5, atol=1e-5)
    for before, after in zip(*map(jax.tree.leaves, (carry, cut[0])), strict=True):
        assert np.array_equal(before[1], after[1])

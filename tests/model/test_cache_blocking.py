from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model import cache_blocking, streaming
from saccade.model.cache_blocking import portion
from saccade.model.classifier import initialize
from tests.model.variants import VARIANTS

CONFIG = VARIANTS[0]
TICK = CONFIG.tick_events


@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.integers(0, 20000)
)
def test_portions_are_equal_and_no_larger_than_they_may_be(
    rows: int, ticks: int, tick_events: int, most_events: int
) -> None:
    part = portion(rows, ticks, tick_events, most_events)
    assert rows % part.rows == ticks % part.ticks == 0
    if part != (1, 1):
        assert part.rows * part.ticks * tick_events <= most_events


def test_what_fits_is_not_cut() -> None:
    assert portion(64, 1, 256, 16384) == (64, 1)
    assert portion(1, 64, 256, 16384) == (1, 64)
    assert portion(7, 3, 100, 2100) == (7, 3)


def test_sessions_stay_side_by_side_before_ticks_do() -> None:
    assert portion(8, 16, 256, 16384) == (8, 8)
    assert portion(256, 16, 256, 16384) == (64, 1)


@pytest.mark.parametrize("most", [1, 6], ids=lambda most: f"{most} ticks")
def test_a_call_in_portions_moves_sessions_as_one_in_one_go(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some sessions rest, some stop inside a portion, some before their last."""
    variables = initialize(CONFIG, jax.random.key(0))
    fresh = streaming.init_carry(CONFIG, variables)
    carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), fresh)
    rng = np.random.default_rng(0)
    tokens = rng.integers(CONFIG.num_embeddings, size=(4, 6 * TICK)).astype(np.int32)
    dt_ms = rng.exponential(1.0, tokens.shape).astype(np.float32)
    ticks = np.array([6, 0, 3, 1])

    def move(most_events: int) -> Any:
        monkeypatch.setattr(cache_blocking, "EVENTS_AT_ONCE", most_events)
        advance = jax.jit(partial(streaming.advance, CONFIG))
        weights = streaming.fold(CONFIG, variables)
        return advance(weights, carry, tokens, dt_ms, ticks)

    cut, whole = move(most * TICK), move(24 * TICK)
    for some, other in zip(*map(jax.tree.leaves, (cut, whole)), strict=True):
        np.testing.assert_allclose(some, other, rtol=2e-5, atol=1e-5)
    for before, after in zip(*map(jax.tree.leaves, (carry, cut[0])), strict=True):
        assert np.array_equal(before[1], after[1])

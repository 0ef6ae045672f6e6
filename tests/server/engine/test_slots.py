from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings, strategies as st

from saccade.server.engine.slots import (
    PackedBatch,
    advance_rows,
    extract,
    insert,
    make_pool,
    scratch_row,
)
from tests.toy import TICK, toy_advance, toy_scores

SLOTS = 5
FRESH = {"state": jnp.float32(0.0), "half_life_ms": jnp.float32(np.inf)}
ADVANCE = jax.jit(lambda pool, batch: advance_rows(toy_advance, 1.0, pool, batch))


def packed(rows: list[int], ticks: list[int], value: int, k: int = 4) -> PackedBatch:
    return PackedBatch(
        np.array(rows, np.int32),
        np.full((len(rows), k * TICK), value, np.int32),
        np.ones((len(rows), k * TICK), np.float32),
        np.array(ticks, np.int32),
    )


def test_the_scratch_row_is_the_last_one() -> None:
    assert scratch_row(make_pool(FRESH, SLOTS)) == SLOTS


def test_what_is_inserted_can_be_extracted_and_nothing_else_changes() -> None:
    pool = make_pool(FRESH, SLOTS)
    carry = {"state": jnp.float32(7.0), "half_life_ms": jnp.float32(5.0)}
    after = insert(pool, jnp.int32(2), carry)
    assert extract(after, jnp.int32(2)) == carry
    for row in (0, 1, 3, 4, 5):
        assert extract(after, jnp.int32(row)) == extract(pool, jnp.int32(row))


@settings(max_examples=40)
@given(
    st.permutations(range(SLOTS)),
    st.lists(st.integers(0, 4), min_size=3, max_size=3),
    st.integers(0, 9),
)
def test_rows_move_by_their_own_ticks_and_others_stay_bit_for_bit(
    order: list[int], ticks: list[int], value: int
) -> None:
    pool = make_pool(FRESH, SLOTS)
    pool["state"] = jax.random.normal(jax.random.key(value), (SLOTS + 1,))
    before = np.asarray(pool["state"]).copy()
    rows = [*order[:3], SLOTS]
    after, logits = ADVANCE(pool, packed(rows, [*ticks, 0], value))
    state = np.asarray(after["state"])
    moved = {row: count for row, count in zip(rows, [*ticks, 0], strict=True) if count}
    for row in range(SLOTS + 1):
        if row not in moved:
            assert state[row].tobytes() == before[row].tobytes()
    for i, (row, count) in enumerate(zip(rows, ticks, strict=False)):
        if count:
            gone = toy_scores([value] * TICK * count)[-1]
            expected = before[row] / 2**count + gone
            assert np.isclose(state[row], expected, atol=1e-5)
            assert logits[i, count - 1, 0] == state[row]

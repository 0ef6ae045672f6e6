from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings, strategies as st

from saccade.model.state_rows import RowLayout, RowLeaves, advance_rows
from saccade.server.engine.scheduler import Bucket
from saccade.server.engine.slots import (
    PackedBatch,
    extract,
    insert,
    make_pool,
    packed_size,
    padding_rows,
    scratch_row,
    unpack,
)
from tests.toy import TICK, toy_advance, toy_scores

SLOTS = 5
CARRY = {"state": jnp.float32(0.0), "half_life_ms": jnp.float32(np.inf)}
LAYOUT = RowLayout(CARRY)
FRESH = LAYOUT.to_rows(CARRY)
ADVANCE = jax.jit(
    lambda pool, batch: advance_rows(toy_advance, LAYOUT, 1.0, pool, *batch)
)


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
    after = insert(pool, jnp.int32(2), LAYOUT.to_rows(carry))
    rows = np.arange(SLOTS + 1, dtype=np.int32)
    before_rows = np.asarray(extract(pool, rows))
    after_rows = np.asarray(extract(after, rows))
    changed = (before_rows != after_rows).any(axis=1)
    assert changed.tolist() == [row == 2 for row in rows]
    read = RowLeaves(LAYOUT, after_rows[2])
    assert [float(leaf) for leaf in read] == [5.0, 7.0]


def test_padding_has_distinct_rows_that_the_pool_lacks() -> None:
    rows = padding_rows(SLOTS, 3)
    assert len(set(rows.tolist())) == 3
    assert rows.min() > scratch_row(make_pool(FRESH, SLOTS))


def test_a_batch_in_one_array_is_the_same_on_both_sides() -> None:
    bucket, rng = Bucket(3, 2), np.random.default_rng(0)
    words = np.zeros(packed_size(bucket, TICK), np.int32)
    host = unpack(words, bucket)
    for part in host:
        part[...] = rng.integers(-5, 100, part.shape)
    host.dt_ms[...] = rng.normal(size=host.dt_ms.shape)
    traced = jax.jit(partial(unpack, bucket=bucket))(words)
    for here, there in zip(host, traced, strict=True):
        assert here.dtype == there.dtype
        assert (here == np.asarray(there)).all()


@settings(max_examples=40)
@given(
    st.permutations(range(SLOTS)),
    st.lists(st.integers(0, 4), min_size=3, max_size=3),
    st.integers(0, 9),
)
def test_rows_move_by_their_own_ticks_and_others_stay_bit_for_bit(
    order: list[int], ticks: list[int], value: int
) -> None:
    states = jax.random.normal(jax.random.key(value), (SLOTS + 1,))
    half_lives = jnp.full(SLOTS + 1, jnp.inf)
    pool = LAYOUT.to_rows({"state": states, "half_life_ms": half_lives})
    before = np.asarray(states).copy()
    rows = [*order[:3], *padding_rows(SLOTS, 1).tolist()]
    after, logits = ADVANCE(pool, packed(rows, [*ticks, 0], value))
    state = np.asarray(LAYOUT.to_carry(after)["state"])
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

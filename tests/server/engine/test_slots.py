from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings, strategies as st

from saccade.server.engine.scheduler import Bucket
from saccade.server.engine.slots import (
    PackedBatch,
    RowLayout,
    RowLeaves,
    advance_rows,
    extract,
    insert,
    make_pool,
    packed_size,
    scratch_row,
    unpack,
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
    rows = np.arange(SLOTS + 1, dtype=np.int32)
    before_rows = np.asarray(extract(pool, rows)["float32"])
    after_rows = np.asarray(extract(after, rows)["float32"])
    changed = (before_rows != after_rows).any(axis=1)
    assert changed.tolist() == [row == 2 for row in rows]
    read = RowLeaves(RowLayout(carry), {"float32": after_rows[2]})
    assert [float(leaf) for leaf in read] == [5.0, 7.0]


def test_the_leaves_of_a_row_come_out_in_their_shapes_and_types() -> None:
    carry = {
        "a": jnp.arange(6, dtype=jnp.float32).reshape(2, 3),
        "b": jnp.int32(7),
        "c": jnp.arange(4, dtype=jnp.float32) - 9,
    }
    pool = insert(make_pool(carry, 2), jnp.int32(1), carry)
    parts = {k: np.asarray(v)[0] for k, v in extract(pool, np.array([1])).items()}
    leaves = RowLeaves(RowLayout(carry), parts)
    assert len(leaves) == 3
    for leaf, expected in zip(leaves, jax.tree.leaves(carry), strict=True):
        assert (leaf.shape, leaf.dtype) == (expected.shape, expected.dtype)
        assert (leaf == np.asarray(expected)).all()


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

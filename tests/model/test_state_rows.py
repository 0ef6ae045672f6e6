"""Rows of a pool: where a carry's leaves lie, and how some rows move."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model import inference
from saccade.model.state_rows import RowLayout, RowLeaves, advance_rows
from tests.model.variants import VARIANTS, compiled

CARRY = {
    "a": jnp.arange(6, dtype=jnp.float32).reshape(2, 3),
    "b": jnp.asarray(7.0),
    "c": jnp.asarray([1 + 2j, 3 - 4j, -0.0 + 5j]),
}
variant = pytest.mark.parametrize("index", range(len(VARIANTS)))


def test_a_carry_comes_out_of_its_row_as_it_went_in() -> None:
    layout = RowLayout(CARRY)
    row = layout.to_rows(CARRY)
    assert row.dtype == jnp.float32
    assert row.shape == (layout.width,) == (6 + 1 + 2 * 3,)
    again = layout.to_carry(row)
    host = RowLeaves(layout, np.asarray(row))
    assert len(host) == 3
    for leaf, here, there in zip(
        jax.tree.leaves(CARRY), jax.tree.leaves(again), host, strict=True
    ):
        assert (leaf.dtype, leaf.shape) == (here.dtype, here.shape)
        assert (leaf.dtype, leaf.shape) == (there.dtype, there.shape)
        assert np.asarray(leaf).tobytes() == np.asarray(here).tobytes()
        assert np.asarray(leaf).tobytes() == there.tobytes()


def test_leaves_on_the_host_become_the_row_that_the_device_makes_of_them() -> None:
    layout = RowLayout(CARRY)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(CARRY)]
    assert layout.fits(leaves)
    row = np.asarray(layout.to_rows(CARRY))
    assert layout.to_row(leaves).tobytes() == row.tobytes()
    assert not layout.fits(leaves[:2])
    assert not layout.fits([leaves[0], leaves[1].astype(np.float64), leaves[2]])


def test_a_leaf_that_float32_cannot_hold_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="float32 or complex64; a leaf is int32"):
        RowLayout({"count": jnp.int32(3)})


def close(ours: Any, theirs: Any) -> bool:
    """Compare to float32's last bits: the programs around both differ."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
    return np.allclose(ours, theirs, rtol=0.0, atol=2e-6 * scale)


@variant
def test_rows_of_a_pool_move_as_carries_of_their_own(index: int) -> None:
    of = compiled(index)
    layout = RowLayout(of.fresh.carry)
    move = partial(inference.advance, of.config)
    alone = jax.jit(move)
    together = jax.jit(partial(advance_rows, move, layout), donate_argnums=1)
    rng, rows = np.random.default_rng(index), np.asarray([4, 0, 90, 2], np.int32)
    size = (len(rows), 3 * of.config.tick_events)
    pool = jnp.repeat(layout.to_rows(of.fresh.carry)[None], 6, axis=0)
    own = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(rows)), of.fresh.carry)
    for ticks in ([3, 1, 0, 2], [1, 0, 0, 3]):
        tokens = rng.integers(of.config.num_embeddings, size=size, dtype=np.int32)
        dt_ms = rng.exponential(1.0, size).astype(np.float32)
        batch = tokens, dt_ms, np.asarray(ticks, np.int32)
        before = np.asarray(pool)
        own, expected = alone(of.weights, own, *batch)
        pool, logits = together(of.weights, pool, rows, *batch)
        for place, count in enumerate(ticks):
            assert close(logits[place, :count], expected[place, :count])
        moved = [row for row, count in zip(rows, ticks, strict=True) if count]
        rest = np.setdiff1d(np.arange(6), moved)
        assert np.asarray(pool)[rest].tobytes() == before[rest].tobytes()
    theirs = np.asarray(layout.to_rows(own))
    assert close(np.asarray(pool)[rows[[0, 1, 3]]], theirs[[0, 1, 3]])

"""What one block computes, on whichever backend."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model import split_complex
from saccade.model.block import blocks, identity
from saccade.model.linear_recurrence import associative_scan, sequential_scan
from saccade.model.pooling import GroupTokens, Projected
from saccade.model.split_complex import SplitComplex
from tests.model.variants import VARIANTS


def draw_complex(rng: Any, *shape: int) -> SplitComplex:
    real, imag = rng.normal(size=(2, *shape))
    return SplitComplex(jnp.asarray(real, jnp.float32), jnp.asarray(imag, jnp.float32))


@pytest.mark.parametrize("index", range(len(VARIANTS)))
def test_a_group_has_the_same_sums_one_by_one_and_at_once(index: int) -> None:
    """The first is what a CPU runs, the second what an accelerator runs."""
    rng = np.random.default_rng(index)
    block = blocks(VARIANTS[index])[0]
    places, groups, features, states = 7, 5, 3, 4
    rates = SplitComplex(-jnp.abs(jnp.asarray(rng.normal(size=4))), jnp.arange(4.0))
    gaps = jnp.asarray(rng.exponential(1.0, (places, groups, 1)), jnp.float32)
    gaps = gaps.at[2].set(3.6e6)  # an hour
    drive = draw_complex(rng, places, groups, states)
    feed, skip = draw_complex(rng, places, groups, features)
    items = Projected(drive, feed, skip)
    tokens = GroupTokens(items, gaps, jnp.full(gaps.shape, 1 / places))
    one_by_one = block.sum_one_by_one(identity, rates, tokens)
    at_once = block.sum_at_once(identity, rates, tokens)
    for ours, theirs in zip(
        jax.tree.leaves(one_by_one), jax.tree.leaves(at_once), strict=True
    ):
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_sequential_and_associative_scan_agree() -> None:
    rng = np.random.default_rng(0)
    state, drive = draw_complex(rng, 3, 4), draw_complex(rng, 3, 9, 4)
    decay = jax.tree.map(lambda x: 0.5 * x, draw_complex(rng, 3, 9, 4))
    step = sequential_scan(state, decay, drive, split_complex.multiply)
    tree = associative_scan(state, decay, drive, split_complex.multiply)
    for ours, theirs in zip(step, tree, strict=True):
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dt_ms", [0.0, 1e-6, 0.001, 0.7, 40.0, 1000.0])
def test_exp_and_expm1_are_the_complex_exponential(dt_ms: float) -> None:
    rng = np.random.default_rng(1)
    real, imag = -np.abs(rng.normal(size=500)), 3 * rng.normal(size=500)
    rates = SplitComplex(jnp.asarray(real, jnp.float32), jnp.asarray(imag, jnp.float32))
    exponent = np.asarray(split_complex.join(rates), np.complex128) * np.float32(dt_ms)
    truth = np.exp(exponent)
    ours = split_complex.join(split_complex.exp(rates, jnp.float32(dt_ms)))
    # What float32 leaves of the phase itself.
    allowed = 4e-7 * (1.0 + np.abs(exponent)) * np.abs(truth) + 1e-30
    assert (np.abs(ours - truth) <= allowed).all()
    less_one = split_complex.join(split_complex.expm1(rates, jnp.float32(dt_ms)))
    allowed = 4e-7 * (1.0 + np.abs(exponent)) * np.abs(np.expm1(exponent)) + 1e-30
    assert (np.abs(less_one - np.expm1(exponent)) <= 4 * allowed).all()

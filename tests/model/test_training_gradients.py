"""The gradients of training equal those of the definition."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from saccade.model import split_complex
from saccade.model.block import blocks, zero_state
from saccade.model.classifier import Classifier
from saccade.model.linear_recurrence import (
    associative_scan_from_zero,
    blocked_scan_from_zero,
    scan_from_zero,
    sequential_scan,
)
from saccade.model.pooling import Projected
from saccade.model.split_complex import SplitComplex
from saccade.model.training_block import TokenInputs, recur_from_zero
from tests.model.variants import VARIANTS, random_variables

TOLERANCE = 1e-9  # float64


def numbers(rng: Any, *shape: int) -> SplitComplex:
    real, imag = rng.normal(size=(2, *shape))
    return SplitComplex(jnp.asarray(real), jnp.asarray(imag))


def close(ours: Any, theirs: Any) -> bool:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return bool(np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max())


@pytest.mark.parametrize("length", [1, 2, 16, 37])
def test_a_long_recurrence_and_its_gradient_are_those_of_single_steps(
    length: int,
) -> None:
    with jax.enable_x64(True):
        rng = np.random.default_rng(length)
        decay = jax.tree.map(lambda x: 0.5 * x, numbers(rng, 2, length, 3))
        drive, weights = numbers(rng, 2, length, 3), numbers(rng, 2, length, 3)

        def by_steps(decay: SplitComplex, drive: SplitComplex) -> SplitComplex:
            zero = jax.tree.map(lambda x: jnp.zeros_like(x[:, 0]), drive)
            found = sequential_scan(zero, decay, drive, split_complex.multiply)
            return SplitComplex(*found)

        def gradient(function: Any) -> Any:
            def loss(*pair: SplitComplex) -> Any:
                after = split_complex.multiply(weights, function(*pair))
                return (jnp.sin(after.real) + after.imag).sum()

            slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))
            return ravel_pytree(slopes(decay, drive))[0]

        truth = ravel_pytree(jax.jit(by_steps)(decay, drive))[0]
        for way in (blocked_scan_from_zero, associative_scan_from_zero):
            ours = ravel_pytree(jax.jit(way)(decay, drive))[0]
            assert close(ours, truth)
        assert close(gradient(scan_from_zero), gradient(by_steps))


@pytest.mark.parametrize(
    "index",
    [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, len(VARIANTS)))],
)
def test_a_block_that_trains_computes_what_the_block_does(index: int) -> None:
    """Values and gradients, by the weights and by the table of projections."""
    config = VARIANTS[index]
    with jax.enable_x64(True):
        rng = np.random.default_rng(index)
        variables = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64), random_variables(config)
        )
        folded = Classifier(config).apply(variables, method="fold").layers[0]
        block, (features, wide) = blocks(config)[0], folded.B.shape
        drive, (feed, skip) = numbers(rng, 9, wide // 2), numbers(rng, 9, features)
        table = Projected(drive, feed, skip)
        tokens = jnp.asarray(rng.integers(9, size=(2, 5, block.stride)))
        dt_ms = jnp.asarray(rng.exponential(1.0, tokens.shape))

        def train(weights: Any, table: Projected) -> Any:
            return recur_from_zero(block, weights, TokenInputs(table, tokens, dt_ms))

        def define(weights: Any, table: Projected) -> Any:
            grouped = TokenInputs(table, tokens, dt_ms).by_place()
            return block.recur(weights, zero_state(weights, (2,)), grouped)[1:]

        def gradient(function: Any) -> Any:
            def loss(*given: Any) -> Any:
                flat = ravel_pytree(function(*given))[0]
                return (jnp.sin(flat) * jnp.arange(flat.size)).sum()

            slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))
            return ravel_pytree(slopes(folded, table))[0]

        ours, theirs = (jax.jit(f)(folded, table) for f in (train, define))
        assert close(ravel_pytree(ours)[0], ravel_pytree(theirs)[0])
        assert close(gradient(train), gradient(define))

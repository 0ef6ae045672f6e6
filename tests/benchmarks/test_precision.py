"""A float32 stream stays near the float64 reference, and the reference is right."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.precision import measure
from benchmarks.sequential import Network
from saccade.model.classifier import scan
from saccade.model.upstream.recipes import presets, recipe
from tests.model.variants import VARIANTS, random_variables

LIMIT = 1e-4


@pytest.mark.parametrize("index", range(len(VARIANTS)))
def test_the_sequential_network_scores_as_the_model_does_in_float64(index: int) -> None:
    config = VARIANTS[index]
    variables = random_variables(config)
    rng = np.random.default_rng(index)
    length = 96 // config.tick_events * config.tick_events
    tokens = rng.integers(0, 50, length).astype(np.int32)
    dt_ms = rng.exponential(1.0, length)
    network = Network(config, variables)
    half = length // config.tick_events // 2 * config.tick_events
    if half:
        network.feed(tokens[:half], dt_ms[:half])
    ours = network.feed(tokens[half:], dt_ms[half:])
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        double = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
        theirs = jax.jit(scan, static_argnums=0)(config, double, tokens, dt_ms)
        theirs = np.asarray(theirs)
    assert np.abs(ours - theirs).max() <= 1e-9 * np.abs(ours).max()


def worst(name: str, events: int) -> float:
    rows = list(measure(name, recipe(name).config, events))
    assert rows[-1].events == events
    return max(row.error for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", presets())
def test_a_long_stream_of_a_published_model_keeps_its_precision(name: str) -> None:
    assert worst(name, 1 << 18) <= LIMIT

"""The benchmark compares like with like."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.baseline import score_windows
from benchmarks.configurations import CONFIGURATIONS
from benchmarks.timing import interleave
from model.classifier import initialize
from model.streaming import scan


@pytest.mark.parametrize(
    "name", ["motions", pytest.param("dvs/small", marks=pytest.mark.slow)]
)
def test_the_baseline_scores_a_window_as_the_model_does(name: str) -> None:
    config = replace(CONFIGURATIONS[name], num_embeddings=50)
    variables = initialize(config, jax.random.key(3))
    rng = np.random.default_rng(3)
    events = 2 * config.tick_events
    tokens = jnp.asarray(rng.integers(50, size=(2, events)), jnp.int32)
    dt_ms = jnp.asarray(rng.exponential(0.01, size=(2, events)), jnp.float32)
    baseline = score_windows(config, variables["params"], tokens, dt_ms)
    for row in range(2):
        ours = scan(config, variables, tokens[row], dt_ms[row])
        scale = float(jnp.abs(ours).max())
        assert jnp.abs(baseline[row] - ours).max() < 1e-4 * scale


def test_cases_take_turns_so_that_a_noisy_moment_hits_all_of_them() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    taken = interleave(calls, budget_s=0.0, burst_s=0.0)
    assert order == list("ab") + list("aabb") * 5
    assert all(seconds.size == 5 for seconds in taken.values())

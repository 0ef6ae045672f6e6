from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model.classifier import initialize
from saccade.model.config import ModelConfig
from saccade.model.training import train_state
from saccade.model.training.optimizer import (
    count_correct,
    cross_entropy,
    learning_rate,
    make_optimizer,
    parameter_groups,
    smooth_labels,
)
from saccade.model.training.settings import OptimizerSettings

SETTINGS = OptimizerSettings(
    lr=1e-2,
    ssm_lr=1e-4,
    weight_decay=0.5,
    warmup_share=0.1,
    final_share=0.01,
    clip_norm=0.0,
    b2=0.99,
    accumulate=1,
)
CONFIG = ModelConfig(
    num_embeddings=8,
    num_classes=3,
    d_model=4,
    d_ssm=4,
    ssm_block_size=4,
    num_stages=1,
    num_layers_per_stage=1,
    pooling_stride=4,
)


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    state = train_state.create(
        initialize(CONFIG, jax.random.key(0)), make_optimizer(SETTINGS, 100)
    )
    return dict(state.variables["params"])


def test_only_state_matrices_have_a_rate_of_their_own(params: dict[str, Any]) -> None:
    found = jax.tree_util.tree_flatten_with_path(parameter_groups(params))[0]
    by_group: dict[str, set[str]] = {}
    for path, group in found:
        by_group.setdefault(group, set()).add(path[-1].key)
    assert by_group["state matrices"] == {"B", "Lambda_re", "Lambda_im"}
    assert by_group["undecayed"] == {"log_step"}
    assert {"C", "D", "kernel", "bias", "scale", "embedding"} <= by_group["regular"]


def test_without_gradient_only_regular_parameters_decay(params: dict[str, Any]) -> None:
    adam = make_optimizer(SETTINGS, 100)
    nothing = jax.tree.map(jnp.zeros_like, params)
    # The rate is 0 in the very first step of the warm-up: look at the second.
    update = jax.jit(adam.update)
    _, moments = update(nothing, adam.init(params), params)
    change, _ = update(nothing, moments, params)
    for (path, moved), before in zip(
        jax.tree_util.tree_flatten_with_path(change)[0],
        jax.tree.leaves(params),
        strict=True,
    ):
        decays = path[-1].key not in {"B", "Lambda_re", "Lambda_im", "log_step"}
        assert bool((moved != 0).any()) == (decays and bool((before != 0).any())), path


def test_the_rate_rises_then_falls_to_its_final_share() -> None:
    rates = [float(learning_rate(SETTINGS, 1.0, 100)(step)) for step in range(101)]
    assert rates[0] == 0.0
    assert max(rates) == pytest.approx(1.0) == rates[10]
    assert rates[100] == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_rows_without_weight_do_not_count() -> None:
    logits = jnp.array([[2.0, 0.0], [0.0, 9.0]])
    targets = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    weights = jnp.array([1.0, 0.0])
    alone = cross_entropy(logits[:1], targets[:1], weights[:1])
    assert cross_entropy(logits, targets, weights) == pytest.approx(float(alone))
    assert float(count_correct(logits, targets, weights)) == 1.0


def test_smoothing_keeps_a_distribution() -> None:
    smoothed = np.asarray(smooth_labels(jnp.eye(4), 0.2))
    assert smoothed.sum(axis=1) == pytest.approx(np.ones(4))
    assert smoothed[0] == pytest.approx([0.85, 0.05, 0.05, 0.05])


def test_accumulated_gradients_move_as_their_mean(params: dict[str, Any]) -> None:
    keys = jax.random.split(jax.random.key(1), 2)
    first, second = (
        jax.tree.map(lambda p, k=key: jax.random.normal(k, p.shape), params)
        for key in keys
    )
    several = make_optimizer(replace(SETTINGS, accumulate=2), 200)
    moments = several.init(params)
    still, moments = several.update(first, moments, params)
    assert not any(bool(leaf.any()) for leaf in jax.tree.leaves(still))
    moved, _ = several.update(second, moments, params)
    one = make_optimizer(SETTINGS, 100)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    expected, _ = one.update(mean, one.init(params), params)
    for found, wanted in zip(
        jax.tree.leaves(moved), jax.tree.leaves(expected), strict=True
    ):
        assert np.asarray(found) == pytest.approx(np.asarray(wanted), rel=1e-5)

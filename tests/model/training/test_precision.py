"""Training in bfloat16: factors alone are of it, and the network is the same."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from saccade.model.classifier import Classifier, initialize
from saccade.model.config import ModelConfig
from saccade.model.precision import PRECISIONS, PrecisionName, multiply_in_bfloat16
from saccade.model.training import devices, train_state
from saccade.model.training.gradient import Rows, make_gradient
from saccade.model.training.input_pipeline import Batch
from tests.model.training.fixtures import SYSTEM

CLASSES = 7  # no other axis is as long: it marks the decoder's products
LENGTH = 32
CONFIG = ModelConfig(
    num_embeddings=50,
    num_classes=CLASSES,
    d_model=16,
    d_ssm=16,
    ssm_block_size=8,
    num_stages=2,
    num_layers_per_stage=1,
    pooling_stride=4,
    state_expansion_factor=2,
    dropout=0.0,
)
ONE_STAGE = replace(CONFIG, num_stages=1)
APART = 0.01
"""Of the scores' length; 0.0026 to 0.0042 was measured."""

PRODUCT = re.compile(
    r"dot_general .*: \(tensor<([0-9x]+)x(\w+)>, tensor<([0-9x]+)x(\w+)>\) "
    r"-> tensor<([0-9x]+)x(\w+)>"
)


def batch() -> Batch:
    rng = np.random.default_rng(0)
    shape = (6, LENGTH)
    return Batch(
        tokens=rng.integers(CONFIG.num_embeddings, size=shape).astype(np.int32),
        dt_ms=rng.exponential(1.0, shape).astype(np.float32),
        lengths=np.full(6, LENGTH, np.int32),
        targets=np.eye(CLASSES, dtype=np.float32)[:6],
        weights=np.ones(6, np.float32),
    )


def scores(config: ModelConfig, name: PrecisionName) -> Any:
    classifier = Classifier(config, PRECISIONS[name])
    apply = jax.jit(partial(classifier.apply, train=True, mutable=["batch_stats"]))
    given = batch()
    variables = initialize(config, jax.random.key(1))
    return apply(variables, given.tokens, given.dt_ms, given.lengths)[0]


def step_of(config: ModelConfig) -> tuple[Any, train_state.TrainState]:
    optimizer = optax.adam(1e-2)
    begun = train_state.create(initialize(config, jax.random.key(1)), optimizer)
    classifier = Classifier(config, PRECISIONS["bfloat16"])
    mesh = devices.make_mesh(SYSTEM)
    return train_state.make_train_step(classifier, optimizer, 0.0, 0.9, 0, mesh), begun


def apart(ours: Any, theirs: Any) -> float:
    ours, theirs = ravel_pytree(ours)[0], ravel_pytree(theirs)[0]
    return float(jnp.linalg.norm(ours - theirs) / jnp.linalg.norm(theirs))


def test_a_product_and_its_gradient_are_those_of_rounded_factors() -> None:
    rng = np.random.default_rng(2)
    shapes = [(2, 5, 8), (8, 3), (2, 5, 3)]
    x, matrix, wanted = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes)
    product, pull = jax.vjp(multiply_in_bfloat16, x, matrix)
    narrow = [np.asarray(z, jnp.bfloat16).astype(float) for z in (x, matrix, wanted)]
    by_x = narrow[2] @ narrow[1].T
    by_matrix = np.einsum("bgi,bgo->io", narrow[0], narrow[2])
    expected = (narrow[0] @ narrow[1], by_x, by_matrix)
    for found, right in zip((product, *pull(wanted)), expected, strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)
    assert apart(product, x @ matrix) > 1e-4


def test_every_product_of_a_step_is_of_bfloat16_but_the_decoders() -> None:
    step, state = step_of(CONFIG)
    traced = step.trace(state, batch())
    products = PRODUCT.findall(traced.lower(lowering_platforms=("cuda",)).as_text())
    decoders = [p for p in products if str(CLASSES) in "x".join(p[::2]).split("x")]
    assert len(decoders) == 3
    assert {p[1::2] for p in decoders} == {("f32", "f32", "f32")}
    others = [p for p in products if p not in decoders]
    assert len(others) == 3 * (3 + 5)  # B, C, gate; D and the skip's where it widens
    assert {p[1::2] for p in others} == {("bf16", "bf16", "f32")}


def test_steps_in_bfloat16_learn_and_what_lasts_is_float32() -> None:
    step, state = step_of(ONE_STAGE)
    losses = []
    for _ in range(30):
        state, tally = step(state, batch())
        losses.append(float(tally.loss))
    assert losses[-1] < losses[0] / 2
    kept = {leaf.dtype.name for leaf in jax.tree.leaves(state)}
    assert kept == {"float32", "int32"}


@pytest.mark.parametrize(
    "config",
    [
        ONE_STAGE,
        pytest.param(replace(CONFIG, batchnorm=True), marks=pytest.mark.slow),
        pytest.param(
            replace(CONFIG, prenorm=False, pooling_stride=1), marks=pytest.mark.slow
        ),
    ],
    ids=["one stage", "batch norm", "postnorm without a stride"],
)
def test_scores_in_bfloat16_are_those_of_float32_but_for_rounding(
    config: ModelConfig,
) -> None:
    ours, theirs = scores(config, "bfloat16"), scores(config, "float32")
    assert ours.dtype == jnp.float32
    assert 1e-4 < apart(ours, theirs) < APART


def test_gradients_are_float32() -> None:
    take = make_gradient(
        Classifier(CONFIG, PRECISIONS["bfloat16"]), 0.0, devices.make_mesh(SYSTEM)
    )
    variables = initialize(CONFIG, jax.random.key(1))
    rows = Rows(*map(jnp.asarray, batch()))
    found = jax.eval_shape(take, variables, rows, jax.random.key(0)).gradient
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found)} == {"float32"}

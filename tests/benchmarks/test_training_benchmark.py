"""The training benchmark compares like with like."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.plain_training import score
from benchmarks.training import published
from saccade.model.classifier import Classifier, initialize


def test_plain_training_scores_as_the_model_does() -> None:
    config = replace(published()[0], dropout=0.0, num_layers_per_stage=2)
    variables = initialize(config, jax.random.key(3))
    rng = np.random.default_rng(3)
    shape = (2, 3 * config.tick_events)
    tokens = jnp.asarray(rng.integers(config.num_embeddings, size=shape), jnp.int32)
    dt_ms = jnp.asarray(rng.exponential(0.1, size=shape), jnp.float32)
    lengths = jnp.full(2, shape[1])
    key = jax.random.key(0)
    plain = jax.jit(score, static_argnums=0)(
        config, variables["params"], tokens, dt_ms, key
    )
    apply = jax.jit(partial(Classifier(config).apply, train=True))
    ours = apply(variables, tokens, dt_ms, lengths, rngs={"dropout": key})
    assert jnp.abs(plain - ours).max() < 1e-4 * jnp.abs(ours).max()

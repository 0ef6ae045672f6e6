"""The first layer's motion detectors, before any training."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model import classifier, inference
from saccade.model.classifier import initialize
from saccade.model.config import ModelConfig
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.tokens import Tokenization, Tokenizer
from saccade.model.training.motion_energy import FIRST_LAYER, with_motion_energy

TOKENIZATION = Tokenization("linear", Sensor(32, 32))
CONFIG = ModelConfig(
    num_embeddings=TOKENIZATION.num_tokens,
    num_classes=2,
    d_model=32,
    d_ssm=32,
    ssm_block_size=8,
    num_stages=1,
    num_layers_per_stage=1,
    pooling_stride=1,
    conj_sym=True,
    dt_min=0.01,
    dt_max=0.1,
)
SPEED = 60.0
EVENTS_MS = 300


def detectors(config: ModelConfig = CONFIG) -> dict[str, Any]:
    drawn = initialize(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    return with_motion_energy(drawn, config, TOKENIZATION, SPEED, rng)


def moving_edges(right: bool) -> Events:
    """Return what two columns of dots, 16 pixels apart, send at 60 pixels/s."""
    rng = np.random.default_rng(1)
    events = np.zeros(4000, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, 1000 * EVENTS_MS, events.size))
    moved = SPEED * events["t"] * 1e-6 * (1 if right else -1)
    events["x"] = (moved + 16 * rng.integers(2, size=events.size)) % 32
    events["y"] = rng.integers(32, size=events.size)
    events["p"] = 1
    return events


def energies(variables: dict[str, Any], events: Events) -> np.ndarray:
    """Return each state's power at the end of a stream, (p,)."""
    chunk = Tokenizer(TOKENIZATION, "preceding").feed(events)
    fresh = classifier.init_carry(CONFIG, variables)
    carry, _ = inference.advance(
        CONFIG,
        classifier.fold(CONFIG, variables),
        jax.tree.map(lambda leaf: leaf[None], fresh),
        jnp.asarray(chunk.tokens)[None],
        jnp.asarray(chunk.dt_ms)[None],
        jnp.asarray([len(chunk.tokens)]),
    )
    return np.abs(np.asarray(carry.ssm[0][0])) ** 2


def test_opposite_motions_excite_different_states_before_training() -> None:
    variables = detectors()
    right, left = (energies(variables, moving_edges(way)) for way in (True, False))
    contrast = np.abs(right - left) / (right + left)
    assert np.median(contrast) > 0.4


def test_only_the_embedding_b_and_c_differ_from_the_drawn_ones() -> None:
    drawn = initialize(CONFIG, jax.random.key(0))
    before = jax.tree_util.tree_leaves_with_path(drawn["params"])
    after = jax.tree.leaves(detectors()["params"])
    changed = {
        path[-1].key
        for (path, old), new in zip(before, after, strict=True)
        if not np.array_equal(old, new)
    }
    assert changed == {"embedding", "B", "C"}
    assert [old.shape for _, old in before] == [new.shape for new in after]


def test_an_embedding_keeps_the_size_that_a_drawn_one_has() -> None:
    embedding = detectors()["params"]["encoder"]["encoder"]["embedding"]
    assert np.var(embedding) == pytest.approx(1 / CONFIG.d_model, rel=0.1)


def test_the_two_polarities_begin_as_opposites() -> None:
    embedding = np.asarray(detectors()["params"]["encoder"]["encoder"]["embedding"])
    off, on = embedding.reshape(2, -1)
    assert np.corrcoef(off, on)[0, 1] < -0.9


def test_a_model_with_fewer_than_two_features_a_state_is_refused() -> None:
    thin = ModelConfig(**{**CONFIG.to_dict(), "d_model": 16})
    with pytest.raises(ValueError, match="two features a state: d_model is 16"):
        detectors(thin)


def test_the_first_layer_stands_where_the_detectors_look_for_it() -> None:
    node: Any = initialize(CONFIG, jax.random.key(0))["params"]
    for name in FIRST_LAYER:
        node = node[name]
    assert {"B", "C", "log_step"} <= set(node)

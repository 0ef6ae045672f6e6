"""Small models of every kind, with random parameters, for the tests of the model."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saccade.model import classifier, inference
from saccade.model.classifier import Classifier, Variables
from saccade.model.config import ModelConfig
from saccade.model.inference import Carry

SMALL = {
    "num_embeddings": 50,
    "num_classes": 5,
    "d_model": 8,
    "d_ssm": 8,
    "ssm_block_size": 4,
    "dt_min": 0.004,
}


def small(**settings: Any) -> ModelConfig:
    return ModelConfig(**{**SMALL, **settings})


# Each value of each axis appears, and each appears with several values of the others.
VARIANTS = (
    small(
        discretization="async",
        pooling_mode="timepool",
        classification_mode="timepool",
        pooling_stride=4,
        num_layers_per_stage=2,
        state_expansion_factor=2,
    ),
    small(
        discretization="zoh",
        pooling_mode="avgpool",
        classification_mode="pool",
        pooling_stride=3,
        num_layers_per_stage=1,
        prenorm=False,
        conj_sym=True,
        step_rescale=0.5,
    ),
    small(
        discretization="dirac",
        pooling_mode="last",
        classification_mode="last",
        num_stages=1,
        pooling_stride=5,
        num_layers_per_stage=2,
        batchnorm=True,
        clip_eigs=False,
    ),
    small(
        discretization="async",
        pooling_mode="last",
        classification_mode="pool",
        num_stages=3,
        pooling_stride=2,
        num_layers_per_stage=1,
        state_expansion_factor=2,
        batchnorm=True,
        prenorm=False,
    ),
    small(
        discretization="zoh",
        pooling_mode="timepool",
        classification_mode="timepool",
        num_stages=1,
        pooling_stride=1,
        num_layers_per_stage=2,
        conj_sym=True,
    ),
    small(
        discretization="dirac",
        pooling_mode="avgpool",
        classification_mode="timepool",
        num_stages=1,
        pooling_stride=32,
        num_layers_per_stage=2,
    ),
)


def random_variables(config: ModelConfig, seed: int = 0) -> Variables:
    """Draw parameters that are far from their initialization, but stable."""
    model = Classifier(config)
    shapes = jax.eval_shape(
        lambda key: model.init(key, method="touch"), jax.random.key(0)
    )
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray[Any, Any]:
        name = path[-1].key
        values = rng.normal(size=leaf.shape)
        scaled = {
            "Lambda_re": -np.abs(values) - 0.05,
            "Lambda_im": 3.0 * values,
            "log_step": np.log(0.02) + 0.5 * values,
            "var": 0.5 + values**2,
            "scale": 1.0 + 0.2 * values,
            "bias": 0.2 * values,
            "embedding": values,
        }
        return np.asarray(scaled.get(name, 0.4 * values), np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


class Compiled:
    """One variant's three functions, compiled once for fixed shapes."""

    LENGTH = 96
    SLOTS = 3
    TICKS = 2

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.variables = jax.tree.map(jnp.asarray, random_variables(config))
        self.weights = classifier.fold(config, self.variables)
        self.fresh = classifier.init_state(config, self.variables)
        self._scan = jax.jit(
            functools.partial(Classifier(config).apply, train=False),
        )
        self._step = jax.jit(inference.step, static_argnums=0)
        self._advance = jax.jit(inference.advance, static_argnums=0)

    def scan(self, tokens: Any, dt_ms: Any) -> np.ndarray[Any, Any]:
        """Score a whole stream of at most LENGTH events."""
        length = len(tokens)
        padded = np.zeros(self.LENGTH, np.int32)
        gaps = np.zeros(self.LENGTH, np.float32)
        padded[:length], gaps[:length] = tokens, dt_ms
        logits = self._scan(
            self.variables, padded[None], gaps[None], np.asarray([length])
        )
        return np.asarray(logits[0])

    def step(self, tokens: Any, dt_ms: Any, state: Any = None) -> tuple[Any, Any]:
        """Return the state after all events, and the logits of each tick."""
        state = self.fresh if state is None else state
        ticks = []
        for token, gap in zip(tokens, dt_ms, strict=True):
            state, logits, ticked = self._step(
                self.config, self.weights, state, np.int32(token), np.float32(gap)
            )
            if ticked:
                ticks.append(np.asarray(logits))
        return state, ticks

    def pool(self) -> Carry:
        """Return SLOTS fresh carries."""
        return jax.tree.map(lambda x: jnp.stack([x] * self.SLOTS), self.fresh.carry)

    def advance(self, carry: Carry, chunks: Any, ticks: Any) -> tuple[Carry, Any]:
        """Move each slot by its own ticks; `chunks` is (slot -> tokens, dt_ms)."""
        length = self.TICKS * self.config.tick_events
        tokens = np.zeros((self.SLOTS, length), np.int32)
        gaps = np.zeros((self.SLOTS, length), np.float32)
        for slot, (stream, dt_ms) in chunks.items():
            tokens[slot, : len(stream)], gaps[slot, : len(stream)] = stream, dt_ms
        return self._advance(
            self.config, self.weights, carry, tokens, gaps, np.asarray(ticks, np.int32)
        )


@functools.cache
def compiled(index: int) -> Compiled:
    """Return the functions of one of VARIANTS."""
    return Compiled(VARIANTS[index])

"""Checkpoints with random weights: right in form, wrong in every answer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saccade.model.checkpoint import save
from saccade.model.classifier import Classifier
from saccade.model.config import ModelConfig
from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.scenes import MOTIONS
from saccade.model.manifest import Manifest, make_canary
from saccade.model.tokens import Tokenization

TICK_EVENTS = 16


def save_untrained(
    path: Path, name: str, labels: tuple[str, ...], side: int, seed: int = 0
) -> None:
    """Write a small model of a square sensor, with ticks of 16 events."""
    tokenization = Tokenization("linear", Sensor(side, side), downsample=2)
    config = ModelConfig(
        num_embeddings=tokenization.num_tokens,
        num_classes=len(labels),
        d_model=8,
        d_ssm=8,
        ssm_block_size=4,
        num_stages=1,
        num_layers_per_stage=1,
        pooling_stride=TICK_EVENTS,
        conj_sym=True,
    )
    tokens = np.arange(TICK_EVENTS, dtype=np.int32)
    dt_ms = np.ones(TICK_EVENTS, np.float32)
    shapes = jax.eval_shape(
        partial(Classifier(config).init, train=False),
        jax.random.key(0),
        jnp.asarray(tokens[None]),
        jnp.asarray(dt_ms[None]),
        jnp.asarray([tokens.size]),
    )
    rng = np.random.default_rng(seed)
    variables = jax.tree_util.tree_map_with_path(partial(_drawn, rng), shapes)
    canary = make_canary(config, variables, tokens, dt_ms)
    save(
        path,
        Manifest(name, labels, config, tokenization, "preceding", canary),
        variables,
    )


def _drawn(rng: np.random.Generator, path: Any, leaf: Any) -> Any:
    """Draw a parameter: compiling the real initialization would take seconds."""
    values = rng.uniform(0.1, 1.0, leaf.shape).astype(leaf.dtype)
    return {"Lambda_re": -values, "log_step": values - 6}.get(path[-1].key, values)


def save_both(folder: Path) -> list[Path]:
    """Write an untrained `motions` and an untrained `nmnist`."""
    save_untrained(folder / "motions", "motions", MOTIONS, 128)
    save_untrained(folder / "nmnist", "nmnist", tuple("0123456789"), 34)
    return [folder / "motions", folder / "nmnist"]

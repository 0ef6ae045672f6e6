"""Checkpoints in the reference's form, written here without its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from saccade.model.classifier import Variables
from saccade.model.config import ModelConfig
from tests.model.variants import random_variables

SETTINGS = {
    "discretization": "async",
    "d_model": 8,
    "d_ssm": 8,
    "ssm_block_size": 4,
    "num_stages": 2,
    "num_layers_per_stage": 1,
    "dropout": 0.1,
    "classification_mode": "pool",
    "prenorm": True,
    "batchnorm": True,
    "bn_momentum": 0.95,
    "pooling_stride": 4,
    "pooling_mode": "avgpool",
    "state_expansion_factor": 2,
}
INITIAL = {
    "C_init": "lecun_normal",
    "dt_min": 0.004,
    "dt_max": 0.1,
    "conj_sym": True,
    "clip_eigs": False,
}
LABELS = ["up", "down", "left"]
CONFIG = ModelConfig(num_embeddings=30, num_classes=3, **SETTINGS, **INITIAL)  # type: ignore[arg-type]
YAML = f"""\
# @package _global_
labels: [{", ".join(LABELS)}]
sensor: [5, 3]
model:
  ssm_init: {{{", ".join(f"{k}: {v}" for k, v in INITIAL.items())}}}
  ssm: {{{", ".join(f"{k}: {v}" for k, v in SETTINGS.items())}}}
"""


def variables() -> Variables:
    return random_variables(CONFIG, seed=3)


def packed(node: Any) -> Any:
    """Return a tree with arrays as Flax's extension type 1."""
    if isinstance(node, dict):
        return {key: packed(part) for key, part in node.items()}
    array = np.asarray(node)
    body = msgpack.packb((array.shape, array.dtype.name, array.tobytes()))
    return msgpack.ExtType(1, body)


def write_msgpack(path: Path, weights: Variables) -> None:
    """Write what the reference's trainer does, the optimizer's state included."""
    tree = {
        "step": np.asarray(7, np.int32),
        "params": weights["params"],
        "opt_state": {"mini_step": np.asarray(0), "acc_grads": weights["params"]},
        "key": np.zeros(2, np.uint32),
        "model_state": {k: v for k, v in weights.items() if k != "params"},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgpack.packb(packed(tree)))

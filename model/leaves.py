"""The leaves of a model's variables, by name: what a file of weights must hold."""

from __future__ import annotations

from typing import Any

import jax

from saccade.model.classifier import Classifier, Variables
from saccade.model.config import ModelConfig

Shape = tuple[int, ...]


def leaves(variables: Variables) -> dict[str, Any]:
    """Return every leaf by its path, as in `params/decoder/bias`."""
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {"/".join(str(part.key) for part in path): leaf for path, leaf in flat}


def expected_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of every leaf that a model of this configuration has."""
    model = Classifier(config)
    variables = jax.eval_shape(
        lambda key: model.init(key, method="touch"), jax.random.key(0)
    )
    return {name: tuple(leaf.shape) for name, leaf in leaves(variables).items()}

"""A backend whose scores are all 0 and cost nothing: what is left is the server.

`serving_free` makes every `saccade serve` that is started within it use this backend.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import jax.numpy as jnp

from benchmarks.cases import Model, draw
from saccade.model.backends import BACKENDS, Backend
from saccade.model.checkpoint import save
from saccade.model.config import ModelConfig
from saccade.model.manifest import Canary, Manifest
from saccade.model.upstream.recipes import recipe

NAME: Final = "free"
RECIPE: Final = "dvs/small"
"""The recipe that sensor, labels and tick are taken from."""
HOOK: Final = Path(__file__).parent / "free"
"""The folder of a `sitecustomize`, which Python imports at its start."""


def advance(
    config: ModelConfig, weights: Any, carry: Any, tokens: Any, dt_ms: Any, ticks: Any
) -> tuple[Any, Any]:
    """Return the sessions as they are, with scores of 0.

    Every argument is used, so that it is brought to the device as for any model.
    """
    used = 0.0 * (tokens[:, 0] + dt_ms[:, 0] + ticks)
    shape = (tokens.shape[0], tokens.shape[1] // config.tick_events, config.num_classes)
    return carry, jnp.zeros(shape, jnp.float32) + used[:, None, None] + weights


def advance_rows(config: ModelConfig, weights: Any, pool: Any, *batch: Any) -> Any:
    """Return a pool's rows as they are, with scores of 0; see `Backend`."""
    rows, tokens, dt_ms, ticks = batch
    return advance(config, weights, pool, tokens, dt_ms + 0.0 * rows[:, None], ticks)


def free(config: ModelConfig, weights: Any, precision: Any = None) -> Backend:
    """Return the backend."""
    return Backend(NAME, jnp.float32(0.0), advance, advance_rows)


def install() -> None:
    """Make this process run every model on the free backend."""
    BACKENDS["fastest"] = free


def save_free(path: Path) -> Model:
    """Write a checkpoint for this backend: of a tiny network, with scores of 0."""
    facts = recipe(RECIPE)
    config = replace(
        facts.config,
        d_model=4,
        d_ssm=4,
        ssm_block_size=4,
        num_stages=1,
        num_layers_per_stage=1,
        pooling_stride=facts.config.tick_events,
    )
    model = draw(config)
    length, zeros = config.tick_events, (0.0,) * config.num_classes
    canary = Canary((0,) * length, (1.0,) * length, zeros)
    manifest = Manifest(
        NAME, facts.labels, config, facts.tokenization, facts.timestep, canary
    )
    save(path, manifest, model.variables)
    return model


@contextmanager
def serving_free() -> Iterator[None]:
    """Make every Python process that is started meanwhile use the free backend."""
    before = os.environ.get("PYTHONPATH")
    parts = [str(HOOK), str(HOOK.parents[1]), *([before] if before else [])]
    os.environ["PYTHONPATH"] = os.pathsep.join(parts)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before

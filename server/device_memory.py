"""How much of a GPU's memory a server needs, from its settings and manifests alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from saccade.model.config import ModelConfig
from saccade.server.setting_values import Shape
from saccade.server.settings import Settings

FLOAT: Final = 4
LIVE_ARRAYS: Final = 8
"""Arrays of a call, as large as its events' features, that live at one time."""

MOST_EVENTS: Final = 262_144
"""Events of one call, at most: more would keep the others waiting for milliseconds."""

VERSIONS: Final = 2
"""A model and the version that replaces it serve beside each other for a while."""

LEAST_BYTES: Final = 4 << 30
"""XLA tries kernels out in memory of its own, and libraries take their workspaces."""


def needed_bytes(settings: Settings) -> int:
    """Return the memory that a server allocates on each of its GPUs, with room.

    A checkpoint that cannot be read counts nothing; loading it says what is wrong.
    """
    slots = settings.slots
    needed = 0
    for config in served_configs(settings.folders):
        kept = weights_bytes(config) + 2 * pool_bytes(config, slots)
        needed += VERSIONS * kept + call_bytes(config, settings.buckets)
    return max(LEAST_BYTES, LEAST_BYTES // 2 + needed)


def weights_bytes(config: ModelConfig) -> int:
    """Return about the bytes of a network's folded weights, float32."""
    table = config.num_embeddings * (config.d_model + 4 * config.d_ssm)
    layers = sum(
        config.num_layers_per_stage
        * (4 * config.features(stage) * config.states(stage)
           + 2 * config.features(stage) ** 2)
        for stage in range(config.num_stages)
    )  # fmt: skip
    return FLOAT * (table + layers)


def pool_bytes(config: ModelConfig, slots: int) -> int:
    """Return about the bytes of a model's rows of state."""
    states = sum(
        config.num_layers_per_stage * 2 * config.states(stage)
        for stage in range(config.num_stages)
    )
    row = states + 2 * config.features(config.num_stages)
    return FLOAT * (slots + 1) * row


def call_bytes(config: ModelConfig, buckets: Iterable[Shape] | None) -> int:
    """Return about the bytes of the largest call's intermediate arrays.

    Args:
        config: The model's.
        buckets: The calls' shapes; None for those that suit the device.
    """
    events = MOST_EVENTS
    if buckets is not None:
        ticks = max((rows * ticks for rows, ticks in buckets), default=1)
        events = ticks * config.tick_events
    widest = config.d_model + 2 * config.d_ssm
    return FLOAT * LIVE_ARRAYS * events * widest


def served_configs(folders: Iterable[Path]) -> Iterable[ModelConfig]:
    """Yield the networks of checkpoints, by their manifests alone.

    A checkpoint that cannot be read is left out.
    """
    for folder in folders:
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            yield ModelConfig.from_dict(manifest["model"])
        except (OSError, ValueError, KeyError, TypeError):
            continue

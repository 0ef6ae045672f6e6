"""The configurations that the kernels implement, and the codes of their choices.

The kernels repeat the arithmetic of `block`, `pooling` and `readout`. Each table here
maps a function or rule that a configuration may name to the kernels' code for it. A
rule that is in no table is not implemented, whatever its name: `unsupported` says so,
and XLA runs the network. (A discretization's `input_gain` is folded into B, so that its
`enter` alone decides.)
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final, NamedTuple

import jax.numpy as jnp

from saccade.model.block import affine_norm, blocks, layer_norm
from saccade.model.config import ModelConfig
from saccade.model.discretization import enter_held, enter_whole
from saccade.model.pooling import EPSILON_MS, elapsed, even, first
from saccade.model.readout import READOUTS, ReadoutRule

FIRST: Final = 0
EVEN: Final = 1
ELAPSED: Final = 2


class ReadoutCode(NamedTuple):
    """The kernels' code for a readout.

    Attributes:
        timed: Whether a tick weighs its duration in the total, and an epsilon more in
            the weighted sum; else 1 in both.
        averages: Whether the ticks before the newest count.
    """

    timed: bool
    averages: bool


_HOLDS: Final[dict[Any, bool]] = {enter_whole: False, enter_held: True}
_POOLINGS: Final[dict[Any, int]] = {first: FIRST, even: EVEN, elapsed: ELAPSED}
_AFFINE: Final[dict[Any, bool]] = {layer_norm: False, affine_norm: True}
_READOUTS: Final[dict[ReadoutRule, ReadoutCode]] = {
    ReadoutRule(jnp.ones_like, 0.0, 1.0): ReadoutCode(timed=False, averages=True),
    ReadoutRule(jnp.asarray, EPSILON_MS, 1.0): ReadoutCode(timed=True, averages=True),
    ReadoutRule(jnp.ones_like, 0.0, 0.0): ReadoutCode(timed=False, averages=False),
}
_SETTINGS: Final = {
    "num_embeddings", "num_classes", "d_model", "d_ssm", "ssm_block_size", "num_stages",
    "num_layers_per_stage", "pooling_stride", "state_expansion_factor",
    "discretization", "pooling_mode", "classification_mode", "prenorm", "batchnorm",
    "bn_momentum", "dropout", "conj_sym", "clip_eigs", "C_init", "dt_min", "dt_max",
    "step_rescale",
}  # fmt: skip
"""Fields of `ModelConfig` that the kernels read, or that inference does not depend on
once the weights are folded. A new field is unsupported until it stands here."""


def holds(config: ModelConfig) -> bool:
    """Return whether an input acts during its whole gap (zero-order hold)."""
    return _HOLDS[blocks(config)[0].discretization.enter]


def pooling(config: ModelConfig) -> int:
    """Return the pooling's code: `FIRST`, `EVEN` or `ELAPSED`."""
    return _POOLINGS[blocks(config)[0].weighting]


def affine(config: ModelConfig) -> bool:
    """Return whether a norm is only a scale and a shift."""
    return _AFFINE[blocks(config)[0].norm]


def readout(config: ModelConfig) -> ReadoutCode:
    """Return the readout's code."""
    return _READOUTS[READOUTS[config.classification_mode]]


def unsupported(config: ModelConfig) -> str:
    """Return why the kernels do not implement a configuration; '' if they do."""
    if new := sorted({field.name for field in fields(config)} - _SETTINGS):
        return f"the kernels do not know the setting {new[0]}"
    for name, code in (
        ("discretization", holds),
        ("pooling_mode", pooling),
        ("batchnorm", affine),
        ("classification_mode", readout),
    ):
        try:
            code(config)
        except KeyError:
            return f"the kernels do not implement {name} {getattr(config, name)!r}"
    return ""

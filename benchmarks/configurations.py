"""What is measured: a published configuration and our own, all with random weights."""

from __future__ import annotations

from typing import Final

from model.config import ModelConfig

DVS_SMALL: Final = ModelConfig(
    num_embeddings=128 * 128 * 2,
    num_classes=11,
    d_model=128,
    d_ssm=128,
    ssm_block_size=16,
    num_stages=2,
    num_layers_per_stage=3,
    pooling_stride=16,
    state_expansion_factor=2,
)
MOTIONS: Final = ModelConfig(
    num_embeddings=64 * 64 * 2,
    num_classes=9,
    d_model=64,
    d_ssm=64,
    ssm_block_size=8,
    num_stages=2,
    num_layers_per_stage=2,
    pooling_stride=8,
    conj_sym=True,
)
CONFIGURATIONS: Final = {"dvs/small": DVS_SMALL, "motions": MOTIONS}

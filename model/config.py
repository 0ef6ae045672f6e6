"""The network's configuration: frozen, with the reference's field names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

# Each of these names is a key of one table, which a test holds equal to it:
# `discretization.DISCRETIZATIONS`, `pooling.POOLINGS`, `readout.READOUTS`.
DiscretizationName = Literal["zoh", "dirac", "async"]
PoolingName = Literal["last", "avgpool", "timepool"]
ReadoutName = Literal["pool", "timepool", "last"]


@dataclass(frozen=True)
class ModelConfig:
    """Everything that determines the network's shapes and arithmetic.

    Attributes:
        num_embeddings: Vocabulary size; tokens lie in [0, num_embeddings).
        num_classes: Number of logits.
        d_model: Features of the embedding and of the first stage.
        d_ssm: States of the first stage (half are stored with `conj_sym`).
        ssm_block_size: Size of one HiPPO-LegS block; divides `d_ssm`.
        num_stages: Stages; each begins with one pooling layer.
        num_layers_per_stage: Layers in a stage, the pooling layer included.
        pooling_stride: Tokens in per token out, of each pooling layer.
        state_expansion_factor: Growth of features and states per stage.
        step_rescale: Multiplies every learned timescale.
    """

    num_embeddings: int
    num_classes: int
    d_model: int = 128
    d_ssm: int = 128
    ssm_block_size: int = 16
    num_stages: int = 2
    num_layers_per_stage: int = 3
    pooling_stride: int = 16
    state_expansion_factor: int = 1
    discretization: DiscretizationName = "async"
    pooling_mode: PoolingName = "timepool"
    classification_mode: ReadoutName = "timepool"
    prenorm: bool = True
    batchnorm: bool = False
    bn_momentum: float = 0.95
    dropout: float = 0.1
    conj_sym: bool = False
    clip_eigs: bool = True
    C_init: Literal["lecun_normal"] = "lecun_normal"
    dt_min: float = 0.001
    dt_max: float = 0.1
    step_rescale: float = 1.0

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be >= 1")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {allowed}"
                )
        if self.d_ssm % self.ssm_block_size:
            raise ValueError(
                f"ssm_block_size {self.ssm_block_size} does not divide "
                f"d_ssm {self.d_ssm}"
            )
        if self.conj_sym and self.ssm_block_size % 2:
            raise ValueError("conj_sym keeps half of each block: ssm_block_size is odd")

    @property
    def tick_events(self) -> int:
        """Events per tick: the product of the strides."""
        return int(self.pooling_stride**self.num_stages)

    def features(self, stage: int) -> int:
        """Return a stage's number of output features; stage -1 is the embedding."""
        return int(self.d_model * self.state_expansion_factor ** max(stage, 0))

    def states(self, stage: int) -> int:
        """Return the number of states of a stage's layers; `conj_sym` keeps half."""
        return int(self.d_ssm * self.state_expansion_factor**stage)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Build from plain values.

        Raises:
            ValueError: A key is unknown or missing, or a value is out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown model settings: {', '.join(unknown)}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"incomplete model settings: {error}") from None


_SIZES = (
    "num_embeddings", "num_classes", "d_model", "d_ssm", "ssm_block_size", "num_stages",
    "num_layers_per_stage", "pooling_stride", "state_expansion_factor",
)  # fmt: skip
_CHOICES: dict[str, tuple[Any, ...]] = {
    "discretization": get_args(DiscretizationName),
    "pooling_mode": get_args(PoolingName),
    "classification_mode": get_args(ReadoutName),
    "C_init": ("lecun_normal",),
}

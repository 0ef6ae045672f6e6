"""A checkpoint's manifest: network, tokenization, canary and provenance, as JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final, get_args

import jax
import numpy as np
import numpy.typing as npt

from saccade.model.classifier import Variables, leaves, scan
from saccade.model.config import ModelConfig, ReadoutName
from saccade.model.tokens import TimestepConvention, Tokenization

FORMAT: Final = 1
CANARY_TICKS: Final = 3
"""Ticks of the canaries that training and importing make."""


@dataclass(frozen=True)
class Canary:
    """An input and the scores that the model must give for it on every machine.

    Attributes:
        tokens: Whole ticks of tokens.
        dt_ms: The tokens' integration timesteps, ms.
        logits: The scores after the last tick.
    """

    tokens: tuple[int, ...]
    dt_ms: tuple[float, ...]
    logits: tuple[float, ...]


def make_canary(
    config: ModelConfig,
    variables: Variables,
    tokens: npt.NDArray[np.int32],
    dt_ms: npt.NDArray[np.float32],
) -> Canary:
    """Return a canary with the model's own scores for some whole ticks."""
    logits = _scan(config)(variables, tokens, dt_ms)
    return Canary(*(tuple(np.asarray(x).tolist()) for x in (tokens, dt_ms, logits)))


@cache
def _scan(config: ModelConfig) -> Any:
    return jax.jit(partial(scan, config))


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's description.

    Attributes:
        name: The name by which clients open the model.
        labels: Class names, in the order of the logits.
        config: The network.
        tokenization: From pixel and polarity to token.
        timestep: The gap that an event is paired with.
        canary: An input and its scores.
        provenance: Origin: command, data, licence, versions, seed.
        metrics: Measured accuracies and the like.
        content_hash: SHA-256 of all that determines a score; `save` sets it.

    Raises:
        ValueError: Fields contradict each other.
    """

    name: str
    labels: tuple[str, ...]
    config: ModelConfig
    tokenization: Tokenization
    timestep: TimestepConvention
    canary: Canary
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    content_hash: str = ""

    def __post_init__(self) -> None:
        if len(self.labels) != self.config.num_classes:
            raise ValueError(
                f"{len(self.labels)} labels for {self.config.num_classes} classes"
            )
        if self.tokenization.num_tokens > self.config.num_embeddings:
            raise ValueError(
                f"the tokenization makes {self.tokenization.num_tokens} tokens; "
                f"the embedding has {self.config.num_embeddings} rows"
            )
        if self.timestep not in get_args(TimestepConvention):
            raise ValueError(f"unknown timestep convention {self.timestep!r}")
        self._check_canary()

    def _check_canary(self) -> None:
        canary, length = self.canary, len(self.canary.tokens)
        if length == 0 or length % self.config.tick_events:
            raise ValueError(f"the canary has {length} events: not whole ticks")
        if len(canary.dt_ms) != length:
            raise ValueError(f"the canary has {len(canary.dt_ms)} gaps for {length}")
        if len(canary.logits) != self.config.num_classes:
            raise ValueError(f"the canary has {len(canary.logits)} logits")

    @property
    def readout(self) -> ReadoutName:
        """The readout's name: how ticks are averaged."""
        return self.config.classification_mode

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "labels": list(self.labels),
            "tokenization": self.tokenization.to_dict(),
            "timestep": self.timestep,
            "readout": self.readout,
            "tick_events": self.config.tick_events,
            "model": self.config.to_dict(),
            "provenance": self.provenance,
            "metrics": self.metrics,
            "content_hash": self.content_hash,
            "canary": {
                "tokens": list(self.canary.tokens),
                "dt_ms": list(self.canary.dt_ms),
                "logits": list(self.canary.logits),
            },
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Manifest:
        """Build from plain values.

        Raises:
            ValueError: A field is missing, unknown to this version, or wrong.
        """
        if values.get("format") != FORMAT:
            raise ValueError(f"format {values.get('format')!r}; this reads {FORMAT}")
        try:
            canary = {key: tuple(rows) for key, rows in values["canary"].items()}
            return cls(
                name=values["name"],
                labels=tuple(values["labels"]),
                config=ModelConfig.from_dict(values["model"]),
                tokenization=Tokenization.from_dict(values["tokenization"]),
                timestep=values["timestep"],
                canary=Canary(**canary),
                provenance=values["provenance"],
                metrics=values["metrics"],
                content_hash=values["content_hash"],
            )
        except KeyError as missing:
            raise ValueError(f"the field {missing} is missing") from None
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None


def content_hash(manifest: Manifest, variables: Variables) -> str:
    """Return the SHA-256 of all that determines a score, as hex digits."""
    facts = {
        key: value
        for key, value in manifest.to_dict().items()
        if key in {"labels", "tokenization", "timestep", "model"}
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, leaf in sorted(leaves(variables).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

"""The models of a server, as the engine runs them and as clients see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.sensor import Sensor
from saccade.model.tokens import TimestepConvention, Tokenization

if TYPE_CHECKING:  # a worker has no use for JAX
    from saccade.model.backends import InPlace

PyTree: TypeAlias = Any
"""Arrays nested in tuples, dicts and dataclasses that JAX can flatten."""

Advance: TypeAlias = Callable[..., tuple[PyTree, Any]]
"""weights, carry[s,…], tokens[s,k·R], dt_ms[s,k·R], ticks[s] → carry, logits[s,k,c]"""


class Canary(NamedTuple):
    """A short stream and the scores that it must give.

    Attributes:
        tokens: Embedding indices, `(l,)` int32; whole ticks.
        dt_ms: Integration timesteps, `(l,)` float32.
        logits: Scores after the last tick, `(c,)`.
    """

    tokens: npt.NDArray[np.int32]
    dt_ms: npt.NDArray[np.float32]
    logits: npt.NDArray[np.floating[Any]]


class Servable(NamedTuple):
    """A model as the engine runs it: a state, and how ticks move it.

    Attributes:
        name: The name that clients open the model by.
        tick_events: Events per tick, R.
        classes: Number of logits.
        weights: Device arrays, an argument of every call.
        fresh: One session's carry at its beginning, from a float32 `half_life_ms`
            (infinite: the whole session counts alike); JAX traces it.
        advance: Moves row i of a batch of carries by `ticks[i]` ticks.
        canary: The stream and scores that every compiled bucket must reproduce.
        version: Tells apart models of one name; empty where there is one.
        advance_rows: (weights, pool, rows[s], tokens, dt_ms, ticks) -> pool, logits;
            moves those rows of a pool in place (see `model.state_rows`). Without it
            `advance` is used.
        prepare: Compiles code that several models share. It calls its argument
            meanwhile with what it does, which may raise to end the compilation.
        matmul_precision: One of `SERVING_PRECISIONS`: the least that `advance` may
            multiply in, by which the canary's error is judged.
        device: The device that runs it, as JAX has it; None: JAX's first.
        padding_cost: What a tick that only fills a call's shape costs, in units of a
            real one.
        compiler_options: XLA's, by name, where they differ from its own.
        in_place: Where it is set, the rows are NumPy's, and each call runs on the
            thread that makes it.
    """

    name: str
    tick_events: int
    classes: int
    weights: PyTree
    fresh: Callable[[Any], PyTree]
    advance: Advance
    canary: Canary
    version: str = ""
    advance_rows: Advance | None = None
    prepare: Callable[[Callable[[str], None]], None] | None = None
    matmul_precision: str = "float32"
    device: Any = None
    padding_cost: float = 1.0
    compiler_options: dict[str, Any] | None = None
    in_place: InPlace | None = None

    @property
    def key(self) -> str:
        """The engine's name for the model: its name and version."""
        return f"{self.name}@{self.version}" if self.version else self.name


@dataclass(frozen=True)
class ServedModel:
    """A model as clients see it, with the `Servable` that scores it.

    Attributes:
        servable: The engine's view of the model.
        labels: The classes' names, in the order of the logits.
        tokenization: Its tokens, with the geometry that its events must have.
        timestep: Which gap goes with an event.
        content_hash: Hash of the checkpoint, which tells versions apart.
        folder: The folder that the checkpoint was read from.
        execution: The backend that was asked for, one of `BACKENDS`.
        kept: The folder that keeps which backend is faster, if any does.
        measured: Whether it is known which backend is faster.
    """

    servable: Servable
    labels: tuple[str, ...]
    tokenization: Tokenization
    timestep: TimestepConvention
    content_hash: str
    folder: Path | None = None
    execution: str = "fastest"
    kept: Path | None = None
    measured: bool = True

    @cached_property
    def name(self) -> str:
        """The name that clients open the model by."""
        return self.servable.name

    @cached_property
    def key(self) -> str:
        """The engine's name for the model: its name and version."""
        return self.servable.key

    @cached_property
    def tick_events(self) -> int:
        """Events per tick."""
        return self.servable.tick_events

    @property
    def sensor(self) -> Sensor:
        """The geometry that its events must have."""
        return self.tokenization.sensor


class Catalogue:
    """The served models by name and version.

    New sessions of a name get its current version. Older versions stay until the
    sessions that began on them have ended.
    """

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._current = {model.name: model for model in models}
        self._versions = {(m.name, m.content_hash): m for m in self._current.values()}

    @property
    def current(self) -> Mapping[str, ServedModel]:
        """The version that new sessions get, by name."""
        return MappingProxyType(self._current)

    @property
    def older(self) -> list[ServedModel]:
        """The versions that only sessions that began on them use."""
        return [m for m in self._versions.values() if m is not self._current[m.name]]

    def version(self, name: str, content_hash: str) -> ServedModel | None:
        """Return a version of a model, or None if it is not served any more."""
        return self._versions.get((name, content_hash))

    def promote(self, model: ServedModel) -> None:
        """Make a model the current version of its name."""
        self._versions[model.name, model.content_hash] = model
        self._current[model.name] = model

    def drop(self, model: ServedModel) -> None:
        """Remove an older version."""
        del self._versions[model.name, model.content_hash]

"""What the engine needs to know of a model, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.types import Sensor
from saccade.model.tokens import Tokenizer

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
    """A model as the engine sees it: a state, and how ticks move it.

    Attributes:
        name: What clients call it.
        version: Tells apart those of one name; empty where there is one.
        tick_events: Events per tick, R.
        classes: Number of logits.
        weights: Device arrays, an argument of every call.
        fresh: One session's carry at its beginning, from a float32 `half_life_ms`
            (infinite: the whole session counts alike); JAX traces it.
        advance: Moves row i of a batch of carries by `ticks[i]` ticks.
        canary: What every compiled bucket must reproduce.
        advance_rows: (weights, pool, rows[s], tokens, dt_ms, ticks) -> pool, logits;
            moves those rows of a pool where they are. Without it `advance` is used.
        prepare: Compiles what it shares with other models, and calls its argument
            meanwhile, which may raise to end it.
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
    prepare: Callable[[Callable[[], None]], None] | None = None

    @property
    def key(self) -> str:
        """What the engine calls it."""
        return f"{self.name}@{self.version}" if self.version else self.name


# >>> merged from server.engine.models
# >>> """A model that is served: what the engine runs, and what clients are told of it."""


@dataclass(frozen=True)
class ServedModel:
    """One model of this server.

    Attributes:
        servable: What the engine runs.
        labels: The classes' names, in the order of the logits.
        sensor: The geometry that its events must have.
        content_hash: Tells versions apart.
        new_tokenizer: Makes one stream's tokenizer.
        folder: The checkpoint that it was read from.
        execution: How it was to be run, one of `BACKENDS`.
    """

    servable: Servable
    labels: tuple[str, ...]
    sensor: Sensor
    content_hash: str
    new_tokenizer: Callable[[], Tokenizer]
    folder: Path | None = None
    execution: str = "fastest"

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.servable.name

    @property
    def key(self) -> str:
        """What the engine calls it: name and version."""
        return self.servable.key

    @property
    def tick_events(self) -> int:
        """Events per tick."""
        return self.servable.tick_events


# >>> merged from server.engine.catalogue
# >>> """Which version of which model serves: one for new sessions, older ones for theirs."""


class Catalogue:
    """The models of one server, by name and version."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._current = {model.name: model for model in models}
        self._versions = {(m.name, m.content_hash): m for m in self._current.values()}

    @property
    def current(self) -> Mapping[str, ServedModel]:
        """What new sessions get, by name."""
        return MappingProxyType(self._current)

    @property
    def older(self) -> list[ServedModel]:
        """What only sessions that began on it use."""
        return [m for m in self._versions.values() if m is not self._current[m.name]]

    def version(self, name: str, content_hash: str) -> ServedModel | None:
        """Return a version of a model, if it is served still."""
        return self._versions.get((name, content_hash))

    def promote(self, model: ServedModel) -> None:
        """Give new sessions of its name this version."""
        self._versions[model.name, model.content_hash] = model
        self._current[model.name] = model

    def drop(self, model: ServedModel) -> None:
        """Forget an older version."""
        del self._versions[model.name, model.content_hash]

"""A model that is served: what the engine runs, and what clients are told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from saccade.model.events.types import Sensor
from saccade.model.tokens import Tokenizer
from saccade.server.engine.servable import Servable


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
        execution: How it was to be run, one of `EXECUTIONS`.
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

"""A heartbeat: what one process of a replica says of itself to the others.

A replica is one `saccade serve`: one address, one process or several workers, each of
which reports for itself. The reports of a replica add up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple, Self

READY: Final = "ready"


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """How much of one model a process serves.

    Attributes:
        state: The model's state, as `/readyz` names it.
        sessions: Sessions that have a client.
        capacity: Sessions that it may have.
        lag_s: Time from an event to its score that nine of ten lately stayed below, s.
    """

    state: str
    sessions: int
    capacity: int
    lag_s: float = 0.0

    def __add__(self, other: ModelLoad) -> ModelLoad:
        """Return the load of two processes of one replica."""
        ready = self.state == other.state == READY
        state = (
            READY if ready else next(s for s in (self.state, other.state) if s != READY)
        )
        sessions, capacity = (
            self.sessions + other.sessions,
            self.capacity + other.capacity,
        )
        return ModelLoad(state, sessions, capacity, max(self.lag_s, other.lag_s))


class Usage(NamedTuple):
    """What one process has used of an API key: since some time, and now.

    Attributes:
        events: Events that have come in since.
        bytes: Bytes that have come in since.
        sessions: Sessions now.
        requests: Requests now.
    """

    events: int
    bytes: int
    sessions: int
    requests: int


@dataclass(frozen=True, slots=True)
class Report:
    """One process's heartbeat.

    Attributes:
        replica: The replica's name, new with each start.
        part: The number of the process within the replica.
        url: Where clients reach the replica; empty where only it itself can tell.
        draining: Whether it is about to stop.
        models: The load of each model, by name.
        keys: What was used with each API key since the process began, by its holder.
    """

    replica: str
    part: int
    url: str
    draining: bool = False
    models: dict[str, ModelLoad] = field(default_factory=dict)
    keys: dict[str, Usage] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the report as text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a report.

        Raises:
            ValueError: The text is no report.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            models = {n: ModelLoad(**one) for n, one in fields.pop("models").items()}
            keys = {n: Usage(*one) for n, one in fields.pop("keys").items()}
            return cls(**fields, models=models, keys=keys)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not the report of a replica: {error}") from None


@dataclass(frozen=True, slots=True)
class Replica:
    """One server of the fleet: the sum of its processes' reports.

    Attributes:
        name: Its name, new with each start.
        url: Where clients reach it; empty where only it itself can tell.
        draining: Whether it is about to stop.
        models: The load of each model, by name.
    """

    name: str
    url: str
    draining: bool
    models: dict[str, ModelLoad]

    def serves(self, model: str) -> bool:
        """Return whether a new session of a model may be sent here."""
        load = self.models.get(model)
        ready = load is not None and load.state == READY
        return ready and not self.draining and bool(self.url)


def replicas_of(reports: Iterable[Report]) -> list[Replica]:
    """Add up reports by replica, in the order of their names."""
    found: dict[str, Replica] = {}
    for one in sorted(reports, key=lambda report: (report.replica, report.part)):
        known = found.get(one.replica)
        models = dict(one.models) if known is None else known.models
        if known is not None:
            for name, load in one.models.items():
                models[name] = models[name] + load if name in models else load
        draining = one.draining or (known is not None and known.draining)
        found[one.replica] = Replica(one.replica, one.url, draining, models)
    return [*found.values()]

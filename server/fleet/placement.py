"""Which replica a new session, or one that comes back, goes to.

The least predicted lag wins, then the emptiest. Between two heartbeats a placement
counts as a session of the replica that it named, so that not all go to the same one.

Plain values in, plain values out; the caller has the clock.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from saccade.server.fleet.report import ModelLoad, Replica

LAG_STEP_S: Final = 0.01
"""Lags that differ by less are the same."""


class Unplaced(Exception):
    """No replica can take the session now.

    Attributes:
        model: The model that was asked for.
        known: Whether any replica has it.
        names: The models that there are.
        full: Whether replicas are ready, and full.
    """

    def __init__(self, model: str, names: Sequence[str], *, full: bool) -> None:
        super().__init__(model)
        self.model = model
        self.names = tuple(names)
        self.known = model in names
        self.full = full

    def __str__(self) -> str:
        if not self.known:
            return f"no server has the model {self.model!r}: {', '.join(self.names)}"
        state = "is full" if self.full else "starts or stops"
        return f"every server with the model {self.model!r} {state}"


class Placed(NamedTuple):
    """A placement, until it is counted by the replica itself."""

    replica: str
    model: str
    until_s: float


class Placement:
    """Chooses replicas.

    Args:
        counted_s: For how long a placement counts as a session of the replica, s: until
            a heartbeat has surely told of it.
    """

    def __init__(self, counted_s: float) -> None:
        self._counted_s = counted_s
        self._placed: deque[Placed] = deque()

    def place(self, replicas: Sequence[Replica], model: str, now_s: float) -> Replica:
        """Return the replica for a session of a model.

        Raises:
            Unplaced: None can take it now.
        """
        while self._placed and self._placed[0].until_s <= now_s:
            self._placed.popleft()
        serving = [one for one in replicas if one.serves(model)]
        loads = [(self._expected(one, model), one) for one in serving]
        free = [(load, one) for load, one in loads if load.sessions < load.capacity]
        if not free:
            names = sorted({name for one in replicas for name in one.models})
            raise Unplaced(model, names, full=bool(serving))
        random.shuffle(free)  # equals share what comes
        _, chosen = min(free, key=lambda each: _rank(each[0]))
        self._placed.append(Placed(chosen.name, model, now_s + self._counted_s))
        return chosen

    def _expected(self, replica: Replica, model: str) -> ModelLoad:
        """Return a replica's load with what was placed there since its heartbeat."""
        load = replica.models[model]
        more = sum(1 for one in self._placed if one[:2] == (replica.name, model))
        return load + ModelLoad(load.state, more, 0)


def _rank(load: ModelLoad) -> tuple[int, float]:
    """Return the order in which loads are preferred: predicted lag, then fullness."""
    lag_s = load.lag_s * (load.sessions + 1) / max(load.sessions, 1)
    return int(lag_s / LAG_STEP_S), load.sessions / load.capacity

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
        share_s = _lag_of_a_session([one.models[model] for one in serving])
        ranks = [(self._rank(one, model, share_s), one) for one in serving]
        free = [(rank, one) for rank, one in ranks if rank is not None]
        if not free:
            names = sorted({name for one in replicas for name in one.models})
            raise Unplaced(model, names, full=bool(serving))
        random.shuffle(free)  # equals share what comes
        _, chosen = min(free, key=lambda each: each[0])
        self._placed.append(Placed(chosen.name, model, now_s + self._counted_s))
        return chosen

    def _rank(
        self, replica: Replica, model: str, share_s: float
    ) -> tuple[int, float] | None:
        """Return how a replica ranks by predicted lag, then fullness; None: full.

        The lag grows with the sessions. Where there are none, what lag there was is of
        the past, and `share_s` is what a session adds elsewhere.
        """
        load = replica.models[model]
        more = sum(1 for one in self._placed if one[:2] == (replica.name, model))
        sessions = load.sessions + more
        if sessions >= load.capacity:
            return None
        if load.sessions:
            lag_s = load.lag_s * (sessions + 1) / load.sessions
        else:
            lag_s = share_s * more
        return int(lag_s / LAG_STEP_S), sessions / load.capacity


def _lag_of_a_session(loads: Sequence[ModelLoad]) -> float:
    """Return the mean lag by session, of the replicas that have sessions, s."""
    shares = [load.lag_s / load.sessions for load in loads if load.sessions]
    return sum(shares) / len(shares) if shares else 0.0

"""One Redis as a server of limited rate, with the pauses of its append-only file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import simpy

from benchmarks.scale.processors import Steps

MOST_USED: Final = 0.98
"""Beyond this share of its time, snapshots are late and the queue no longer ends."""
FSYNC_EVERY_S: Final = 1.0


@dataclass(frozen=True)
class RedisCosts:
    """What operations take of Redis's one thread.

    Attributes:
        save_s: One snapshot in a pipeline, s.
        check_s: One question whether a session is still its owner's, in a pipeline, s.
        claim_s: Reading a record and raising its epoch, s.
        fsync_s: Median pause of a second's fsync, s.
        fsync_spread: Standard deviation of the logarithm of that pause.
    """

    save_s: float = 1e-4
    check_s: float = 1.2e-5
    claim_s: float = 2e-4
    fsync_s: float = 2e-3
    fsync_spread: float = 1.4


class Redis:
    """One Redis server, to which snapshots come at a steady rate.

    Args:
        env: The simulation.
        costs: What operations take.
        saves_per_s: Snapshots a second, at random moments.
        rng: Draws waits and pauses.
        checks_per_s: Checks a second between them.

    Attributes:
        used: Share of its time that snapshots and checks take; 1 or more is too much.
    """

    def __init__(
        self,
        env: simpy.Environment,
        costs: RedisCosts,
        saves_per_s: float,
        rng: np.random.Generator,
        checks_per_s: float = 0.0,
    ) -> None:
        self._env, self._costs, self._rng = env, costs, rng
        self.used = saves_per_s * costs.save_s + checks_per_s * costs.check_s
        self._free_s = 0.0
        env.process(self._fsync())

    def claim(self) -> simpy.Event:
        """Return an event that happens once a record was claimed and read."""
        used = min(self.used, MOST_USED)
        # A claim waits behind the snapshots that are there (the wait of an M/M/1
        # queue), behind the claims before it, and behind an fsync.
        behind_s = 0.0
        if self._rng.random() < used:
            behind_s = self._rng.exponential(self._costs.save_s / (1.0 - used))
        start_s = max(self._env.now, self._free_s)
        self._free_s = start_s + self._costs.claim_s / (1.0 - used)
        return self._env.timeout(self._free_s + behind_s - self._env.now)

    def _fsync(self) -> Steps:
        yield self._env.timeout(self._rng.uniform(0.0, FSYNC_EVERY_S))
        while True:
            pause_s = self._costs.fsync_s * self._rng.lognormal(
                0.0, self._costs.fsync_spread
            )
            self._free_s = max(self._free_s, self._env.now) + pause_s
            yield self._env.timeout(FSYNC_EVERY_S)

"""Placement: which replica a session is sent to, by what placement knows of them."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count
from typing import Literal, TypeAlias

import numpy as np
import simpy

from benchmarks.scale.processors import Processors

Policy: TypeAlias = Literal["newest", "least loaded", "any"]
"""The least loaded replica of the newest version, the least loaded, or any one."""


@dataclass(eq=False)
class FleetReplica:
    """One replica.

    Attributes:
        zone: Its zone.
        version: The version that it serves.
        spare: The rate that its sessions leave for replay, events a second.
        alive: Whether it answers.
        listed: Whether placement believes that it answers, and has it take sessions.
        sessions: Sessions that it serves or is about to.
        lost: Sessions that it served when it was lost.
        silent: Whether its host does not answer either.
        opener: Opens one resumed session after another.
    """

    zone: int
    version: int
    spare: Processors
    opener: simpy.Resource
    alive: bool = True
    listed: bool = True
    sessions: int = 0
    lost: int = 0
    silent: bool = False

    @property
    def reported(self) -> int:
        """Sessions that placement believes it to serve: the last that it reported."""
        return self.sessions + self.lost


class Placement:
    """Chooses replicas that are believed to have room.

    Args:
        policy: Which of them.
        capacity: Sessions that a replica admits.
        rng: Draws where any will do.
    """

    def __init__(self, policy: Policy, capacity: int, rng: np.random.Generator) -> None:
        self._policy, self._capacity, self._rng = policy, capacity, rng
        self._all: list[FleetReplica] = []
        self._queue: list[tuple[int, int, int, FleetReplica]] = []
        self._order = count()

    def add(self, replica: FleetReplica) -> None:
        """List another replica."""
        self._all.append(replica)
        self.changed(replica)

    def changed(self, replica: FleetReplica) -> None:
        """Take note of another number of sessions."""
        version = replica.version if self._policy == "newest" else 0
        entry = (-version, replica.reported, next(self._order), replica)
        heapq.heappush(self._queue, entry)

    def choose(self) -> FleetReplica | None:
        """Return a replica that is listed and has room; None where there is none."""
        if self._policy == "any":
            rooms = [one for one in self._all if self._has_room(one)]
            return rooms[self._rng.integers(len(rooms))] if rooms else None
        while self._queue:
            _, reported, _, replica = self._queue[0]
            if reported == replica.reported and self._has_room(replica):
                return replica
            heapq.heappop(self._queue)  # a newer entry has its number, if it has room
        return None

    def _has_room(self, replica: FleetReplica) -> bool:
        return replica.listed and replica.reported < self._capacity

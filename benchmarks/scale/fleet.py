"""A fleet of replicas, with whole sessions as events: who loses what, and for how long.

A session without a replica finds out, waits as the SDK does, asks placement, claims its
record in the store, is restored, and replays what was not durable; docs/scale.md lists
what is measured here and what is assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import simpy

from benchmarks.scale.placement import FleetReplica, Placement, Policy
from benchmarks.scale.processors import Processors, Steps
from benchmarks.scale.redis import Redis, RedisCosts
from saccade.clients.reconnecting import DEFAULT_RECONNECTING
from saccade.clients.session import DEFAULT_BOUNDS

Loss: TypeAlias = Literal["killed", "silent"]
EVENT_BYTES: Final = 8
LEAST_SPARE: Final = 0.02
"""Share of its rate that a full replica still spends on replay: it is fair."""


@dataclass(frozen=True)
class FleetShape:
    """A fleet, its sensors, and the time that each step of a recovery takes.

    Attributes:
        sensors: Sessions, one a sensor.
        rate: Events per second of each.
        replicas: Replicas, over the zones in turn.
        capacity: Sessions that a replica admits.
        replica_rate: Events per second that a replica scores.
        stream_rate: Events per second that it scores of one session alone.
        zones: Zones.
        snapshot_s: Seconds between two snapshots of a session, mean.
        checks: Times that the store is asked for it between two snapshots.
        shards: Redis servers that share the sessions.
        redis: What their operations cost.
        liveness_s: After how much silence a client leaves a server.
        heartbeat_s: How long placement believes a replica that is gone.
        dial_s: How long a client tries to reach a host that is silent; where only the
            process is gone, the host refuses at once.
        placement_s: Time of one answer of placement.
        restore_s: A replica's event loop's time to open a resumed session: 40 that came
            at once took 195 ms on 2 cores, clients included.
        warm_up_s: The shortest and longest start of a replica.
        retry_after_s: What placement answers where no replica has room.
        placed: Where placement puts a session; `any` is what a plain balancer does.
        suspecting: Whether placement leaves a replica out as soon as a client says that
            it could not be reached, instead of only once its heartbeat has run out.
    """

    sensors: int
    rate: float
    replicas: int
    capacity: int
    replica_rate: float
    stream_rate: float
    zones: int = 3
    snapshot_s: float = 1.0
    checks: float = 0.0
    shards: int = 1
    redis: RedisCosts = field(default_factory=RedisCosts)
    liveness_s: float = 5.0
    heartbeat_s: float = 5.0
    dial_s: float = 5.0
    placement_s: float = 0.001
    restore_s: float = 0.005
    warm_up_s: tuple[float, float] = (14.0, 34.0)
    retry_after_s: float = 1.0
    placed: Policy = "newest"
    suspecting: bool = True


class Recovery(NamedTuple):
    """One session's move, s since it lost its replica.

    Attributes:
        began_s: When that was.
        resumed_s: Until `opened`.
        first_s: Until the first result of an event that had no result before.
        caught_up_s: Until all events that came meanwhile were scored, too.
        attempts: Dials, from 1.
        kept_bytes: The most that its client had to keep.
    """

    began_s: float
    resumed_s: float
    first_s: float
    caught_up_s: float
    attempts: int
    kept_bytes: float


class Fleet:
    """A fleet whose sessions are spread evenly at the start.

    Args:
        shape: The fleet.
        seed: Of all draws.

    Attributes:
        env: The simulation.
        replicas: All replicas that ever were.
        recoveries: Moves that ended.
        gave_up: Sessions that found no replica within the SDK's time.
        noticing: Sessions whose replica is lost, and whose client does not know.
        moving: Sessions on their way between two replicas now.
        overflown: Moves whose client had to keep more than the SDK does: the source
            waits, or a live one loses events.
        placements: Answers of placement, by second.
        refused: Answers that no replica had room.
    """

    def __init__(self, shape: FleetShape, seed: int = 0) -> None:
        self.env, self.shape = simpy.Environment(), shape
        self._rng = np.random.default_rng(seed)
        self.recoveries: list[Recovery] = []
        self.gave_up = self.overflown = self.refused = 0
        self.noticing = self.moving = 0
        self.placements: Counter[int] = Counter()
        self._answers = simpy.Resource(self.env)
        self._placement = Placement(shape.placed, shape.capacity, self._rng)
        self.replicas: list[FleetReplica] = []
        background = shape.sensors / shape.snapshot_s / shape.shards
        self.redis = [
            Redis(
                self.env,
                shape.redis,
                background,
                self._rng,
                checks_per_s=shape.checks * background,
            )
            for _ in range(shape.shards)
        ]
        for number in range(shape.replicas):
            least, more = divmod(shape.sensors, shape.replicas)
            self._add(number % shape.zones, 0, least + (number < more))

    def _add(self, zone: int, version: int, sessions: int = 0) -> None:
        """Add a replica that serves now."""
        spare = Processors(self.env, self.shape.replica_rate)
        replica = FleetReplica(zone, version, spare, simpy.Resource(self.env))
        replica.sessions = sessions
        self.replicas.append(replica)
        self._placement.add(replica)
        self._share(replica)

    def warm_up(self, zone: int, version: int) -> Steps:
        """Start a replica; it takes sessions after its warm-up."""
        yield self.env.timeout(self._rng.uniform(*self.shape.warm_up_s))
        self._add(zone, version)

    @property
    def serving(self) -> int:
        """Sessions that a living replica serves, or is about to."""
        return sum(replica.sessions for replica in self.replicas if replica.alive)

    def lose(self, lost: list[FleetReplica], loss: Loss) -> None:
        """Let replicas end now, without a word where the loss is silent."""
        for replica in lost:
            replica.alive, replica.silent = False, loss == "silent"
            replica.lost, replica.sessions = replica.sessions, 0
            for _ in range(replica.lost):
                self.env.process(self._lost(loss))
        self.env.process(self._unlist(lost))

    def move(self, replica: FleetReplica, sessions: int) -> list[simpy.Event]:
        """Send some sessions of a draining replica elsewhere: `goaway`, then 1012."""
        replica.sessions -= sessions
        self._placement.changed(replica)
        return [
            self.env.process(self._recover(self.env.now, 0.0)) for _ in range(sessions)
        ]

    def _unlist(self, lost: list[FleetReplica]) -> Steps:
        yield self.env.timeout(self.shape.heartbeat_s)
        for replica in lost:
            replica.listed = False

    def _lost(self, loss: Loss) -> Steps:
        """Notice the loss, then recover with the events since the last snapshot."""
        began_s = self.env.now
        replay_s = self._rng.uniform(0.0, self.shape.snapshot_s)
        if loss == "silent":
            self.noticing += 1
            yield self.env.timeout(self.shape.liveness_s * self._rng.uniform(1, 1.1))
            self.noticing -= 1
        yield from self._recover(began_s, replay_s)

    def _recover(self, began_s: float, replay_s: float) -> Steps:
        self.moving += 1
        give_up_s = self.env.now + DEFAULT_RECONNECTING.give_up_s
        replica, attempts = None, 0
        for wait_s in _waits_s(self._rng):
            yield self.env.timeout(wait_s)
            if self.env.now > give_up_s:
                break
            attempts += 1
            replica = yield from self._dial()
            if replica is not None:
                break
        self.moving -= 1
        if replica is None:
            self.gave_up += 1
            return
        yield from self._resume(replica, began_s, replay_s, attempts)

    def _dial(self) -> Generator[simpy.Event, Any, FleetReplica | None]:
        """Ask placement, and go there; returns the replica, or None."""
        with self._answers.request() as turn:
            yield turn
            yield self.env.timeout(self.shape.placement_s)
        self.placements[int(self.env.now)] += 1
        chosen = self._placement.choose()
        if chosen is None:
            self.refused += 1
            yield self.env.timeout(self.shape.retry_after_s)
            return None
        if not chosen.alive:
            yield self.env.timeout(self.shape.dial_s if chosen.silent else 0.0)
            chosen.listed = chosen.listed and not self.shape.suspecting
            return None
        chosen.sessions += 1
        self._placement.changed(chosen)
        self._share(chosen)
        return chosen

    def _resume(
        self, replica: FleetReplica, began_s: float, replay_s: float, attempts: int
    ) -> Steps:
        """Claim the record, open the session, replay, and catch up."""
        shape = self.shape
        shard = self.redis[int(self._rng.integers(shape.shards))]
        yield shard.claim()
        with replica.opener.request() as turn:
            yield turn
            yield self.env.timeout(shape.restore_s)
        resumed_s = self.env.now - began_s
        yield replica.spare.work(shape.rate * replay_s, shape.stream_rate)
        first_s = self.env.now - began_s
        kept_s = replay_s + first_s
        # What comes while it catches up has to be scored as well.
        faster = max(0.1, 1.0 - shape.rate / shape.stream_rate)
        yield replica.spare.work(shape.rate * first_s / faster, shape.stream_rate)
        kept_bytes = EVENT_BYTES * shape.rate * kept_s
        self.overflown += int(kept_bytes > DEFAULT_BOUNDS.kept_bytes)
        self.recoveries.append(
            Recovery(
                began_s,
                resumed_s,
                first_s,
                self.env.now - began_s,
                attempts,
                kept_bytes,
            )
        )

    def _share(self, replica: FleetReplica) -> None:
        """Leave for replay what the sessions of a replica do not take."""
        rate, used = self.shape.replica_rate, replica.sessions * self.shape.rate
        replica.spare.resize(max(LEAST_SPARE * rate, rate - used))


def _waits_s(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the SDK's waits before its attempts, s, with this generator's draws."""
    bounds_s = [DEFAULT_RECONNECTING.first_s]
    while sum(bounds_s) < 2 * DEFAULT_RECONNECTING.give_up_s:
        bounds_s.append(min(2 * bounds_s[-1], DEFAULT_RECONNECTING.most_s))
    lowest = np.array(bounds_s) / 2
    lowest[0] = 0.0
    return rng.uniform(lowest, bounds_s)

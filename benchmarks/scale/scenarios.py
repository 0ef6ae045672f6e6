"""The questions that the model answers, each as a table of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import simpy

from benchmarks.scale.fleet import Fleet, FleetShape, Loss
from benchmarks.scale.operations import cycle
from benchmarks.scale.placement import FleetReplica
from benchmarks.scale.processors import Steps
from saccade.server.sessions.snapshot_writer import SnapshotPolicy

SENSORS: Final = (1_000, 10_000, 100_000)
PERIODS_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
FILL: Final = 0.6
"""Share of a replica's capacity that is planned for."""
UNTIL_S: Final = 300.0
DRAIN_STEPS: Final = 20
SAVE_S: Final = 6e-5
"""Event loop's time for a snapshot in a pipeline, s."""
NEVER: Final = 1 << 60
MOST_REDIS: Final = 0.7
"""Share of a Redis's time that is planned for."""


class Carrier(NamedTuple):
    """What one replica carries, by the replica's model.

    Attributes:
        name: The host, as the tables name it.
        sensors: Sensors within the bound on their 99th percentile.
        rate: Events per second of each.
        replica_rate: Events per second that the replica scores at most.
        stream_rate: Events per second that it scores of one session alone.
    """

    name: str
    sensors: int
    rate: float
    replica_rate: float
    stream_rate: float


class Sizing(NamedTuple):
    """A fleet for so many sensors.

    Attributes:
        carrier: Its hosts.
        sensors: Sensors.
        replicas: Replicas at `FILL` of their capacity.
        with_zones: Replicas of which two zones of three carry all.
        shards: Redis servers at `MOST_REDIS`, for a snapshot a second.
    """

    carrier: str
    sensors: int
    replicas: int
    with_zones: int
    shards: int


def sizing(carrier: Carrier, sensors: int, save_s: float, zones: int = 3) -> Sizing:
    """Return how many replicas carry so many sensors, and still do without one zone."""
    replicas = math.ceil(sensors / (FILL * carrier.sensors))
    a_zone = math.ceil(sensors / (carrier.sensors * (zones - 1)))
    with_zones = max(replicas, a_zone * zones)
    shards = math.ceil(sensors * save_s / MOST_REDIS)
    return Sizing(carrier.name, sensors, replicas, with_zones, shards)


def fleet_of(carrier: Carrier, sensors: int, replicas: int) -> FleetShape:
    """Return the shape of a fleet of these replicas."""
    shape = FleetShape(
        sensors,
        carrier.rate,
        replicas,
        carrier.sensors,
        carrier.replica_rate,
        carrier.stream_rate,
    )
    shards = math.ceil(sensors * shape.redis.save_s / MOST_REDIS)
    return replace(shape, shards=shards)


class Moved(NamedTuple):
    """What sessions went through in one scenario, s.

    Attributes:
        scenario: Its name.
        sessions: Sessions that lost their replica or were sent away.
        moves: Moves a session, mean.
        resumed_p50_s: Until `opened`.
        first_p50_s: Until the first new result.
        first_p99_s: The same, 99th percentile.
        first_longest_s: The same, longest.
        caught_up_p99_s: Until nothing was left to catch up.
        peak_dials: The most answers of placement in a second.
        refused: Answers that no replica had room.
        lost: Sessions that gave up.
        overflown: Sessions whose client had more to keep than it does.
    """

    scenario: str
    sessions: int
    moves: float
    resumed_p50_s: float
    first_p50_s: float
    first_p99_s: float
    first_longest_s: float
    caught_up_p99_s: float
    peak_dials: int
    refused: int
    lost: int
    overflown: int


def moved(name: str, fleet: Fleet, sessions: int) -> Moved:
    """Sum up what a fleet's sessions went through."""
    found = np.array([one[1:4] for one in fleet.recoveries] or [(0.0, 0.0, 0.0)])
    p50, p99 = np.percentile(found, (50, 99), axis=0)
    return Moved(
        name,
        sessions,
        (len(fleet.recoveries) + fleet.gave_up) / max(sessions, 1),
        float(p50[0]),
        float(p50[1]),
        float(p99[1]),
        float(found[:, 1].max()),
        float(p99[2]),
        max(fleet.placements.values(), default=0),
        fleet.refused,
        fleet.gave_up,
        fleet.overflown,
    )


def lose_zone(
    name: str, shape: FleetShape, loss: Loss, *, replaced: bool, seed: int = 0
) -> Moved:
    """Lose one zone at once; where `replaced`, others start as soon as it is noticed.

    Args:
        name: The scenario's name in the table.
        shape: The fleet.
        loss: Whether clients learn of it from their sockets, or from silence.
        replaced: Whether as many replicas are started in the other zones.
        seed: Of all draws.
    """
    fleet = Fleet(shape, seed)
    lost = [one for one in fleet.replicas if one.zone == 0]
    sessions = sum(one.sessions for one in lost)
    fleet.lose(lost, loss)
    if replaced:
        fleet.env.process(_replace(fleet, lost))
    fleet.env.run(UNTIL_S)
    return moved(name, fleet, sessions)


def _replace(fleet: Fleet, lost: Sequence[FleetReplica]) -> Steps:
    yield fleet.env.timeout(fleet.shape.heartbeat_s)
    for number, _ in enumerate(lost):
        zone = 1 + number % (fleet.shape.zones - 1)
        fleet.env.process(fleet.warm_up(zone, 0))


def roll(
    name: str, shape: FleetShape, at_once: int, pace_s: float, seed: int = 0
) -> Moved:
    """Replace every replica, some at once: start the new ones, then drain the old ones.

    Args:
        name: The scenario's name in the table.
        shape: The fleet, with its policy of placement.
        at_once: Replicas that are replaced together.
        pace_s: Over how long a replica's sessions are sent away, s.
        seed: Of all draws.
    """
    fleet = Fleet(shape, seed)
    fleet.env.run(fleet.env.process(_roll(fleet, at_once, pace_s)))
    return moved(name, fleet, shape.sensors)


def _roll(fleet: Fleet, at_once: int, pace_s: float) -> Steps:
    env, old = fleet.env, list(fleet.replicas)
    for first in range(0, len(old), at_once):
        group = old[first : first + at_once]
        yield env.all_of([env.process(fleet.warm_up(one.zone, 1)) for one in group])
        for one in group:
            one.listed = False
        yield env.all_of([env.process(_drain(fleet, one, pace_s)) for one in group])


def _drain(fleet: Fleet, replica: FleetReplica, pace_s: float) -> Steps:
    """Send a replica's sessions away in equal parts, wait for them, and end it."""
    a_step = math.ceil(replica.sessions / DRAIN_STEPS)
    moves: list[simpy.Event] = []
    while replica.sessions:
        moves += fleet.move(replica, min(a_step, replica.sessions))
        yield fleet.env.timeout(pace_s / DRAIN_STEPS)
    yield fleet.env.all_of(moves)
    replica.alive = False


class Period(NamedTuple):
    """What a snapshot period costs, and what it saves when a zone is killed.

    Attributes:
        snapshot_s: The longest period, `--snapshot-s`.
        saves_per_s: Snapshots a second of the whole fleet.
        checks_per_s: Checks a second of whose a session is, between two snapshots.
        mb_per_s: Their bytes.
        shards: Redis servers at `MOST_REDIS`.
        loop_share: Share of a replica's event loop that goes into them.
        replayed_events: Events that a session replays, mean.
        first_p50_s: Until the first new result after a zone is killed.
        first_p99_s: The same, 99th percentile.
        kept_mb: The most that a client had to keep.
    """

    snapshot_s: float
    saves_per_s: float
    checks_per_s: float
    mb_per_s: float
    shards: int
    loop_share: float
    replayed_events: float
    first_p50_s: float
    first_p99_s: float
    kept_mb: float


def period(shape: FleetShape, snapshot_s: float, row_bytes: int, seed: int) -> Period:
    """Cost one snapshot period, and kill a zone under it.

    The clock alone decides here; the server saves a session also once so many events
    or bytes have come.
    """
    one = cycle(shape.rate, SnapshotPolicy(snapshot_s, NEVER, NEVER))
    saves_per_s = shape.sensors / one.seconds
    checks_per_s = one.checks * saves_per_s
    redis = shape.redis
    used = saves_per_s * redis.save_s + checks_per_s * redis.check_s
    shards = math.ceil(used / MOST_REDIS)
    shape = replace(shape, snapshot_s=one.seconds, checks=one.checks, shards=shards)
    fleet = Fleet(shape, seed)
    fleet.lose([each for each in fleet.replicas if each.zone == 0], "killed")
    fleet.env.run(UNTIL_S)
    first_s = [one.first_s for one in fleet.recoveries]
    p50, p99 = np.percentile(first_s, (50, 99))
    return Period(
        snapshot_s,
        saves_per_s,
        checks_per_s,
        1e-6 * saves_per_s * row_bytes,
        shards,
        saves_per_s / shape.replicas * SAVE_S,
        shape.rate * one.seconds / 2,
        float(p50),
        float(p99),
        1e-6 * max(one.kept_bytes for one in fleet.recoveries),
    )

"""Runs of the replica's model, and how many sensors a replica carries."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import simpy

from benchmarks.scale.costs import ReplicaCosts
from benchmarks.scale.processors import Processors
from benchmarks.scale.replica import Replica, ReplicaShape, SensorLoad, Site

SETTLE_S: Final = 5.0
"""How long the last scores of a run may take."""
P99_S: Final = 0.025
"""The bound on the 99th percentile that a replica's capacity keeps."""
WARM_SHARE: Final = 0.1
"""Share of the first latencies that a capacity leaves out."""


class Hosting(NamedTuple):
    """One host.

    Attributes:
        replicas: Replicas on it.
        cores: Its cores.
        clients_elsewhere: Whether the clients have a host of their own, with enough
            cores; otherwise they share this one's.
    """

    replicas: int = 1
    cores: float = 2.0
    clients_elsewhere: bool = False


ONE_HOST: Final = Hosting()


class Outcome(NamedTuple):
    """What a run of one host's replicas came to; events and ticks of all sessions.

    Attributes:
        p50_ms: Median latency of a tick, from when it was due.
        p99_ms: 99th percentile.
        sent: Events sent.
        scored: Ticks scored.
        dropped: Ticks dropped.
        pending: Events that were neither scored nor dropped at the end: under way, in
            open ticks, or held back in the client.
        cores: Mean number of busy cores.
        device: Share of the time that a replica's device computed.
        swaps: Sessions swapped out for others.
    """

    p50_ms: float
    p99_ms: float
    sent: int
    scored: int
    dropped: int
    pending: int
    cores: float
    device: float
    swaps: int


def run_replicas(
    costs: ReplicaCosts,
    shape: ReplicaShape,
    load: SensorLoad,
    hosting: Hosting = ONE_HOST,
    *,
    seed: int = 0,
) -> Outcome:
    """Run replicas with a load each on one host."""
    replicas = hosting.replicas
    env, rng = simpy.Environment(), np.random.default_rng(seed)
    host = Processors(env, hosting.cores)
    clients = Processors(env, replicas) if hosting.clients_elsewhere else host
    site = Site(host, clients)
    found = [Replica(env, site, costs, shape, load, rng) for _ in range(replicas)]
    env.run(load.seconds + SETTLE_S)
    latencies_ms = np.concatenate([1e3 * np.array(one.latencies_s) for one in found])
    p50, p99 = np.percentile(latencies_ms, (50, 99)) if latencies_ms.size else (0, 0)
    sessions = [session for one in found for session in one.sessions]
    busy_s = sum(one.device_busy_s for one in found) / replicas
    held = sum(len(session.held) for session in sessions) * load.frame_events
    sent = sum(session.sent for session in sessions)
    settled = sum(session.scored + session.dropped for session in sessions)
    return Outcome(
        float(p50),
        float(p99),
        sent + held,
        sum(session.scored for session in sessions),
        sum(session.dropped for session in sessions),
        sent + held - settled * shape.tick_events,
        host.busy_s / load.seconds,
        busy_s / load.seconds,
        sum(one.swaps for one in found),
    )


def capacity(
    costs: ReplicaCosts,
    shape: ReplicaShape,
    load: SensorLoad,
    *,
    cores: float,
    most: int = 1 << 16,
    seed: int = 0,
) -> int:
    """Return the most sensors whose 99th percentile is within `P99_S`, to 1 in 20.

    Each sensor has a host of its own. 0 where even one sensor exceeds the bound.
    """
    costs = costs.without_clients()

    def holds(sensors: int) -> bool:
        many = replace(load, sensors=sensors, even=False)
        outcome = run_replicas(
            costs, shape, many, Hosting(1, cores, clients_elsewhere=True), seed=seed
        )
        done = outcome.scored * shape.tick_events >= 0.99 * (
            outcome.sent - sensors * shape.tick_events
        )
        return done and outcome.p99_ms <= 1e3 * P99_S

    low, high = 0, 1
    while high <= most and holds(high):
        low, high = high, 2 * high
    while low and high - low > max(1, low // 20):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low

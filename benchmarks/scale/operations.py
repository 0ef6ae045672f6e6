"""What a server asks of the store: saves and checks of its sessions, and heartbeats.

The periods are the server's own (`SnapshotPolicy`, the fleet's heartbeat); nothing here
was fitted. `benchmarks.redis_operations` counts what a real Redis was asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.encodings.packed import RECORD_BYTES
from saccade.server.fleet.fleet import HEARTBEAT_S
from saccade.server.sessions.registry import POLL_S
from saccade.server.sessions.snapshot_writer import JITTER, SnapshotPolicy

CYCLES: Final = 4096
"""Periods between two saves over which the mean is taken, spread evenly."""
SAVE_COMMANDS: Final = 5
"""Redis' own count of a save: the script, and what it does."""
CHECK_COMMANDS: Final = 3
BEAT_SCRIPTS: Final = 2
"""A heartbeat announces a process, and reads what the others announced."""
BEAT_COMMANDS: Final = 8

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StoreLoad:
    """What a server asks of the store, per second.

    Attributes:
        saves: Snapshots.
        checks: Questions whether a session is still this server's.
        beats: Heartbeats.
    """

    saves: float
    checks: float
    beats: float

    @property
    def scripts(self) -> float:
        """Scripts that the server asks Redis to run."""
        return self.saves + self.checks + BEAT_SCRIPTS * self.beats

    @property
    def commands(self) -> float:
        """Commands as Redis counts them, those of the scripts included."""
        return (
            SAVE_COMMANDS * self.saves
            + CHECK_COMMANDS * self.checks
            + BEAT_COMMANDS * self.beats
        )


class Cycle(NamedTuple):
    """One session from one save to the next, means.

    Attributes:
        seconds: How long that takes.
        checks: How many times the store is asked meanwhile.
    """

    seconds: float
    checks: float


def cycle(rate: float, policy: SnapshotPolicy) -> Cycle:
    """Return the mean cycle of a session that always moves.

    Args:
        rate: Events per second.
        policy: When sessions are saved and checked.
    """
    # A look every POLL_S finds what has become due since the look before.
    late_s = POLL_S / 2
    drawn = (np.arange(CYCLES) + 0.5) / CYCLES
    period_s: Seconds = policy.every_s * (1 - JITTER * drawn)
    events = min(policy.every_events, policy.every_bytes / RECORD_BYTES)
    due_s = np.minimum(period_s, events / rate) + late_s
    checks = np.zeros(CYCLES)
    if policy.lease_s:
        checks = np.ceil(due_s / (policy.lease_s / 2 + late_s)) - 1
    return Cycle(float(due_s.mean()), float(checks.mean()))


def store_load(
    sessions: int,
    rate: float,
    policy: SnapshotPolicy = SnapshotPolicy(),  # noqa: B008 a value
    processes: int = 1,
) -> StoreLoad:
    """Return what sessions that always move cost the store.

    Args:
        sessions: How many.
        rate: Events per second of each.
        policy: When they are saved and checked.
        processes: Processes of the server that report to the fleet.
    """
    one = cycle(rate, policy)
    return StoreLoad(
        sessions / one.seconds,
        sessions * one.checks / one.seconds,
        processes / HEARTBEAT_S,
    )

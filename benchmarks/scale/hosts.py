"""The hosts that fleets are made of, and what the replica's model says they carry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.scale.costs import CallTimes, ReplicaCosts, StageCosts
from benchmarks.scale.replica import ACCELERATOR, ReplicaShape, SensorLoad
from benchmarks.scale.runs import capacity
from benchmarks.scale.scenarios import Carrier
from saccade.server.engine.scheduler import Bucket

MEASURED: Final = Path(__file__).with_name("measured.json")
"""The costs of the newest `--validate` that was kept."""
RATE: Final = 25_600.0
FRAME_EVENTS: Final = 512
"""A modest sensor: 20 frames a second of two ticks of dvs/small."""
SLOTS: Final = 1024
ACCELERATOR_CALLS: Final[Mapping[Bucket, float]] = {
    Bucket(1, 1): 158e-6,
    Bucket(1, 16): 197e-6,
    Bucket(64, 1): 158e-6,
    Bucket(1024, 1): 0.71e-3,
    Bucket(1024, 16): 11.3e-3,
}
"""dvs/small on an H200, estimated from XLA's compiled programs and not measured."""


class Host(NamedTuple):
    """A kind of host.

    Attributes:
        name: Its name in the tables.
        cores: Cores that a replica has.
        costs: What its stages cost.
        shape: How a replica is set up on it.
    """

    name: str
    cores: int
    costs: ReplicaCosts
    shape: ReplicaShape

    @property
    def replica_rate(self) -> float:
        """Events per second that the device scores of many sessions."""
        bucket = max(self.shape.buckets, key=lambda one: one.rows * one.ticks)
        events = bucket.rows * bucket.ticks * self.shape.tick_events
        return events / self.costs.calls(bucket)

    @property
    def stream_rate(self) -> float:
        """Events per second that it scores of one session."""
        ticks = max(one.ticks for one in self.shape.buckets if one.rows == 1)
        events = ticks * self.shape.tick_events
        return events / self.costs.calls(Bucket(1, ticks))

    def carrier(self, seconds: float, seed: int) -> Carrier:
        """Return how many modest sensors a replica carries, by runs of the model."""
        load = SensorLoad(1, RATE, FRAME_EVENTS, seconds)
        sensors = capacity(
            self.costs, self.shape, load, cores=self.cores, most=4096, seed=seed
        )
        return Carrier(self.name, sensors, RATE, self.replica_rate, self.stream_rate)


def hosts(costs: ReplicaCosts, accelerator: CallTimes | None = None) -> list[Host]:
    """Return the kinds of hosts that the conclusions are about.

    Args:
        costs: Of a host as this one.
        accelerator: Measured times of an accelerator's calls, instead of estimates.
    """
    calls = accelerator or CallTimes(ACCELERATOR_CALLS)
    device = costs.with_calls(calls, call_width=0)
    plain = ReplicaShape(slots=SLOTS)
    wide = replace(plain, platform=ACCELERATOR)
    name = "an H200" if accelerator else "an H200 (estimated)"
    return [
        Host("4 cores", 4, replace(costs, call_width=2), plain),
        Host(f"{name}, one process", 4, device, wide),
        Host(f"{name}, 8 workers", 16, device, replace(wide, workers=8)),
    ]


def read_costs(path: Path = MEASURED) -> ReplicaCosts:
    """Read the costs that `--validate --json` wrote.

    Raises:
        ValueError: The file is not its JSON.
    """
    try:
        return _costs_from(json.loads(path.read_text())["costs"])
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{path} is not the JSON of benchmarks.scale --validate: {error!r}"
        raise ValueError(reason) from None


def _costs_from(value: Mapping[str, Any]) -> ReplicaCosts:
    def stage(name: str) -> StageCosts:
        us = value[f"{name}_us"]
        parts = (us["turn"], us["frame"], us["result"], us["cold"])
        return StageCosts(*(1e-6 * part for part in parts))

    calls = {_bucket(text): 1e-6 * us for text, us in value["calls_us"].items()}
    return ReplicaCosts(
        stage("client"),
        stage("loop"),
        stage("device"),
        CallTimes(calls),
        value["call_width"],
        1e-6 * value["timer_us"],
        1e-6 * value["hand_over_us"],
        1e-6 * value["swap_us"],
    )


def _bucket(text: str) -> Bucket:
    rows, ticks = text.split("x")
    return Bucket(int(rows), int(ticks))

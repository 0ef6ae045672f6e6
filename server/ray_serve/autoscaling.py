"""How many replicas there should be, by how full they are and how late their scores.

Ray Serve asks every second with each replica's figures, averaged over its look-back
period, and keeps to the bounds and delays of its `autoscaling_config` afterwards.
Serve's controller imports nothing of Saccade for it: this module is sent there whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

OCCUPANCY: Final = "occupancy"
LAG: Final = "lag_s"
"""The names under which a replica records its figures."""

TOLERANCE: Final = 0.1
"""Replicas that are off their targets by less than this part are right in number."""
MOST_GROWTH: Final = 2.0
"""How many times as many replicas one decision may ask for."""
CALM: Final = 0.5
"""The part of the target that the lag of fewer replicas must be predicted to keep to:
lag grows faster than load, so that a fleet which shrank up to its target would miss it.
"""


class ReplicaLoad(NamedTuple):
    """What one replica has recorded.

    Attributes:
        occupancy: Sessions by capacity, of its fullest model, 0 to 1.
        lag_s: Time from an event to its score that nine of ten stayed below, of its
            slowest model, s.
    """

    occupancy: float
    lag_s: float


@dataclass(frozen=True)
class Targets:
    """What replicas should be like on average.

    Attributes:
        occupancy: Sessions by capacity, above 0, at most 1.
        lag_s: Time from an event to its score, s, above 0.

    Raises:
        ValueError: One is out of its range.
    """

    occupancy: float = 0.6
    lag_s: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.occupancy <= 1:
            raise ValueError(f"occupancy is {self.occupancy}; it must be in 0..1")
        if not 0 < self.lag_s < math.inf:
            raise ValueError(f"lag_s is {self.lag_s}; it must be above 0")


def wanted_replicas(loads: Sequence[ReplicaLoad], targets: Targets) -> int:
    """Return how many replicas should share the load of those that there are.

    Sessions divide by the number of replicas, and the lag is predicted to, as where
    sessions are placed. Whichever asks for more replicas counts.

    Args:
        loads: Of each replica that serves; at least one.
        targets: Of their average.
    """
    count = len(loads)
    filled = sum(load.occupancy for load in loads) / targets.occupancy
    late = sum(load.lag_s for load in loads) / targets.lag_s
    wanted = max(filled, late)
    if wanted > count * (1 + TOLERANCE):
        return min(math.ceil(wanted), math.ceil(count * MOST_GROWTH))
    calm = max(filled / (1 - TOLERANCE), late / CALM)
    return max(1, min(count, math.ceil(calm)))


class AutoscalingContext(Protocol):
    """What Ray Serve passes to a policy, as far as it matters here."""

    target_num_replicas: int
    policy_state: dict[str, Any]

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None:
        """By a figure's name and a replica's id, its average."""


class LagAndOccupancy:
    """The policy for `autoscaling_config.policy` of a Serve config.

    Args:
        occupancy: See `Targets`.
        lag_s: See `Targets`.
    """

    def __init__(
        self,
        occupancy: float = Targets.occupancy,
        lag_s: float = Targets.lag_s,
    ) -> None:
        self._targets = Targets(occupancy, lag_s)

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Return how many replicas there should be, and the policy's state: none.

        Where no replica has recorded anything, as while all of them start or while
        Redis does not answer, the number stays.
        """
        recorded = context.aggregated_metrics or {}
        filled, late = recorded.get(OCCUPANCY, {}), recorded.get(LAG, {})
        both = filled.keys() & late.keys()
        if not both:
            return context.target_num_replicas, {}
        loads = [ReplicaLoad(filled[replica], late[replica]) for replica in both]
        return wanted_replicas(loads, self._targets), {}

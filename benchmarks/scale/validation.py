"""Predictions beside measurements: p50 of one and of two replicas, and their ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from benchmarks.scale.costs import CallTimes, ReplicaCosts, StageCosts, coldness
from benchmarks.scale.measured import (
    FITTED,
    FRAME_EVENTS,
    FULL,
    LONE,
    RATE,
    SEVERAL,
    TARGETS,
    Measurements,
    Target,
    median_ms,
)
from benchmarks.scale.replica import ReplicaShape, SensorLoad
from benchmarks.scale.runs import Hosting, Outcome, run_replicas
from saccade.server.engine.scheduler import Bucket

SIMULATED_S: Final = 20.0
HAND_OVERS: Final = 4
"""Client to event loop, to device thread, and back."""
ONE: Final = Bucket(1, 1)
FULL_CALL: Final = Bucket(64, 1)
RESULT_SHARE: Final = 0.5
"""Of a frame's cost in a full turn, what is spent on its result: not told apart by CPU
times, and of no consequence where each frame has one result."""
MOST_ERROR: Final = 0.25


class Comparison(NamedTuple):
    """One load, measured and predicted, ms.

    Attributes:
        load: Its name.
        measured_ms: The measured median.
        predicted_ms: The model's.
        fitted: Whether the load gave the costs: then it predicts nothing.
    """

    load: str
    measured_ms: float
    predicted_ms: float
    fitted: bool = False

    @property
    def error(self) -> float:
        """The prediction's error, as a part of what was measured."""
        return self.predicted_ms / self.measured_ms - 1.0

    def to_json(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {**self._asdict(), "error": self.error}


def costs_of(measurements: Measurements, cores: int) -> ReplicaCosts:
    """Return the costs that the fitted loads show.

    What a frame costs in a full turn is the frame's. What it costs beyond that in a
    turn of its own is the turn's, part of it only after a sleep. A lone sensor's
    latency that neither CPU time nor the client's timer explains is the hand-overs'.
    """
    calls = CallTimes(measurements.calls_s)
    spent = {name: run.per_frame_s() for name, run in measurements.runs.items()}
    for one in spent.values():  # the calls are on the same threads as the device's
        one["device"] -= calls(ONE)
    spent[FULL.name]["device"] += calls(ONE) - calls(FULL_CALL) / FULL_CALL.rows
    client, loop, device = (
        _stage([spent[target.name][name] for target in FITTED], turns)
        for name, turns in (("client", 2), ("loop", 2), ("device", 1))
    )
    timer_s = measurements.runs[LONE.name].measured.behind.percentile(50) or 0.0
    costs = ReplicaCosts(client, loop, device, calls, cores, timer_s)
    measured_ms = median_ms(measurements.runs[LONE.name].measured, 50)
    missing_ms = measured_ms - predict(costs, LONE, cores).p50_ms
    return replace(costs, hand_over_s=max(0.0, 1e-3 * missing_ms / HAND_OVERS))


def _stage(frame_s: Sequence[float], turns: int) -> StageCosts:
    """Return a thread's costs.

    Args:
        frame_s: CPU time for a frame of the loads `FITTED`, s.
        turns: Turns that a frame takes by itself: client and loop have one for the
            frame, and one for its result.
    """
    lone_s, several_s, item_s = (max(0.0, one) for one in frame_s)
    item_s = min(item_s, lone_s, several_s)
    colds = [
        coldness(1 / (RATE / FRAME_EVENTS * target.sensors * turns))
        for target in FITTED[:2]
    ]
    cold_s = max(0.0, lone_s - several_s) / (colds[0] - colds[1])
    turn_s = max(0.0, lone_s - item_s - colds[0] * cold_s)
    cold_s = min(cold_s, (lone_s - item_s) / colds[0])
    share = RESULT_SHARE if turns == 2 else 0.0
    parts = (1 - share) * item_s, share * item_s
    return StageCosts(turn_s / turns, *parts, cold_s / turns)


def predict(costs: ReplicaCosts, target: Target, cores: int, seed: int = 0) -> Outcome:
    """Return what the model says of a load."""
    load = SensorLoad(target.sensors, RATE, FRAME_EVENTS, SIMULATED_S)
    return run_replicas(
        costs,
        ReplicaShape(FRAME_EVENTS),
        load,
        Hosting(target.replicas, cores),
        seed=seed,
    )


def compare(
    measurements: Measurements, cores: int, targets: Sequence[Target] = TARGETS
) -> list[Comparison]:
    """Predict every load with a rate, those that gave the costs first."""
    costs = costs_of(measurements, cores)
    return [
        Comparison(
            target.name,
            median_ms(measurements.runs[target.name].measured, 50),
            predict(costs, target, cores).p50_ms,
            target in FITTED,
        )
        for target in (LONE, SEVERAL, *targets)
    ]

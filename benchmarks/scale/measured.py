"""Real servers beside the model: `saccade serve` in processes of their own.

The costs come from three loads of one server: a lone sensor, whose turns hold one
frame each and follow a long sleep; 8 sensors, whose turns follow shorter ones; and 64
sessions at full speed, whose turns hold many frames. Other loads, of one and of two
servers, take turns with these, so that the machine's other users disturb all alike, and
are predicted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks import kept  # noqa: F401 first of all: it prepares JAX
from benchmarks.cases import Shape, cases
from benchmarks.processes import label, thread_times_s
from benchmarks.serve_cases import (
    RANDOM_MODEL,
    Case,
    Served,
    served_models,
    served_name,
)
from benchmarks.timing import interleave
from saccade.clients.benchmark.crew import Crew, probe
from saccade.clients.benchmark.measured import Measured, added
from saccade.clients.commands.server_process import ServerProcess
from saccade.server.engine.scheduler import CPU_BUCKETS, Bucket

RATE: Final = 5120.0
FRAME_EVENTS: Final = 256
"""A tick of `RANDOM_MODEL`, 20 times a second."""
SHAPES: Final = tuple(Shape(*bucket) for bucket in CPU_BUCKETS)
CALLS_S: Final = 0.5
FULL_SESSIONS: Final = 64


class Target(NamedTuple):
    """A load: so many sensors on each of so many servers; no rate is full speed."""

    name: str
    replicas: int
    sensors: int
    rate: float | None = RATE


LONE: Final = Target("one replica, 1 sensor", 1, 1)
FULL: Final = Target("one replica, 64 sessions at full speed", 1, FULL_SESSIONS, None)
SEVERAL: Final = Target("one replica, 8 sensors", 1, 8)
FITTED: Final = (LONE, SEVERAL, FULL)
"""The loads that the costs come from."""
TARGETS: Final = (
    Target("one replica, 4 sensors", 1, 4),
    Target("two replicas, 4 sensors each", 2, 4),
    Target("two replicas, 8 sensors each", 2, 8),
)


@dataclass
class Run:
    """What one load came to, over all rounds.

    Attributes:
        measured: What its clients measured.
        loop_s: CPU time of the servers' event loops.
        device_s: CPU time of their other threads: the device's and the kernels'.
        p50s_ms: The median of each round.
    """

    measured: Measured = field(default_factory=Measured)
    loop_s: float = 0.0
    device_s: float = 0.0
    p50s_ms: list[float] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Frames sent."""
        return self.measured.frames

    def per_frame_s(self) -> dict[str, float]:
        """Return each stage's CPU time for a frame, s."""
        cpu_s = {
            "client": self.measured.cpu_s,
            "loop": self.loop_s,
            "device": self.device_s,
        }
        return {name: spent / max(self.frames, 1) for name, spent in cpu_s.items()}


class Measurements(NamedTuple):
    """Everything that was measured in one sitting.

    Attributes:
        calls_s: The compiled calls, in this process.
        runs: By the load's name.
    """

    calls_s: dict[Bucket, float]
    runs: dict[str, Run]

    def to_json(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {
            "calls_us": {str(b): 1e6 * s for b, s in self.calls_s.items()},
            "loads": {
                name: {
                    "rounds_p50_ms": run.p50s_ms,
                    "p50_ms": median_ms(run.measured, 50),
                    "p99_ms": median_ms(run.measured, 99),
                    "behind_p50_ms": 1e3 * (run.measured.behind.percentile(50) or 0),
                    "frames": run.frames,
                    "late": run.measured.late,
                    "cpu_us_a_frame": {
                        stage: 1e6 * s for stage, s in run.per_frame_s().items()
                    },
                }
                for name, run in self.runs.items()
            },
        }


def median_ms(measured: Measured, percent: float) -> float:
    """Return a percentile of a load's latency, ms; not a number where there is none."""
    found = measured.latency.percentile(percent)
    return float("nan") if found is None else 1e3 * found


def measure(
    rounds: int, seconds: float, targets: Sequence[Target] = TARGETS
) -> Measurements:
    """Measure the compiled calls, the loads that give the costs, and the targets.

    Args:
        rounds: How often; all loads take turns in each.
        seconds: How long each load lasts in a round.
        targets: The loads that are to be predicted.
    """
    runs: defaultdict[str, Run] = defaultdict(Run)
    calls: defaultdict[Bucket, list[float]] = defaultdict(list)
    loads = (LONE, SEVERAL, *targets, FULL)
    replicas = max(target.replicas for target in loads)
    with _served(replicas) as (model, servers), ExitStack() as stack:
        crews = _Crews(servers, stack)
        for target in loads:
            crews.of(target)
        for _ in range(rounds):
            for bucket, taken_s in _calls(model).items():
                calls[bucket].append(taken_s)
            for target in loads:
                _run(crews.of(target), servers, seconds, runs[target.name])
    medians = {bucket: float(np.median(taken)) for bucket, taken in calls.items()}
    return Measurements(medians, dict(runs))


class _Crews:
    """The client processes of each server, opened once and idle between their loads.

    Args:
        servers: The servers.
        stack: Ends the processes.
    """

    def __init__(self, servers: Sequence[ServerProcess], stack: ExitStack) -> None:
        self._servers, self._stack = servers, stack
        self._probed = asyncio.run(
            probe(servers[0].url, {"model": served_name(RANDOM_MODEL)})
        )
        self._crews: dict[tuple[str, int, float | None], Crew] = {}

    def of(self, target: Target) -> list[Crew]:
        """Return a load's client processes, one a server."""
        return [
            self._crew(server.url, target)
            for server in self._servers[: target.replicas]
        ]

    def _crew(self, url: str, target: Target) -> Crew:
        key = url, target.sensors, target.rate
        if key not in self._crews:
            case = Case(RANDOM_MODEL, target.sensors, FRAME_EVENTS, "tick", target.rate)
            sensor = self._probed.opened["sensor"]
            load = case.load(self._probed.held_back, sensor=sensor)
            crew = Crew(url, load, target.sensors)
            self._crews[key] = self._stack.enter_context(crew)
        return self._crews[key]


@contextmanager
def _served(replicas: int) -> Iterator[tuple[Served, list[ServerProcess]]]:
    """Serve dvs/small with random weights in so many processes, and wait for them."""
    with served_models([RANDOM_MODEL]) as models, ExitStack() as stack:
        arguments = ["--model", str(models[0].folder)]
        servers = [
            stack.enter_context(ServerProcess(arguments)) for _ in range(replicas)
        ]
        for server in servers:
            server.wait_until_ready(lambda _: None)
        yield models[0], servers


def _calls(served: Served) -> Mapping[Bucket, float]:
    timed = cases(served.model, list(SHAPES))[1:]
    taken = interleave({case.name: case.call for case in timed}, CALLS_S)
    return {
        Bucket(shape.sessions, shape.ticks): float(np.median(taken[case.name]))
        for shape, case in zip(SHAPES, timed, strict=True)
    }


def _run(
    crews: Sequence[Crew], servers: Sequence[ServerProcess], seconds: float, run: Run
) -> None:
    """Run a load once, and add what it came to."""
    chosen = servers[: len(crews)]
    before = [thread_times_s(server.pid) for server in chosen]
    first = crews[0].begin(seconds)
    others = [crew.begin(seconds, start_s=first.start_s) for crew in crews[1:]]
    plans = zip(crews, [first, *others], strict=True)
    found = added(crew.finish(plan) for crew, plan in plans)
    for server, times in zip(chosen, before, strict=True):
        _add_cpu(run, server, times)
    run.p50s_ms.append(median_ms(found, 50))
    run.measured.follow(found)


def _add_cpu(run: Run, server: ServerProcess, before: Mapping[Any, float]) -> None:
    """Add each thread's CPU time since `before`: the main thread is the event loop."""
    for thread, now_s in thread_times_s(server.pid).items():
        spent_s = now_s - before.get(thread, 0.0)
        if label(thread, server.pid) == "main":
            run.loop_s += spent_s
        else:
            run.device_s += spent_s

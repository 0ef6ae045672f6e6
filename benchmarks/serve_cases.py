"""The cases of `benchmarks.serve`, and the engine's own rate to compare each with."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax

from benchmarks import cases as engine_cases, free_backend
from benchmarks.baseline import CONFIGURATIONS
from benchmarks.cases import Model, Shape, draw
from benchmarks.readiness import save_random
from saccade.checkpoints import released
from saccade.clients.benchmark.session import Load
from saccade.model.checkpoint import load
from saccade.model.classifier import fold, init_carry
from saccade.model.manifest import Manifest

RANDOM_MODEL: Final = "dvs/small"
FRAME_EVENTS: Final = (256, 4096, 32768)
REPORTS: Final[dict[str, dict[str, Any]]] = {
    "tick": {"every": "tick"},
    "100 ms": {"every": "ms", "n": 100},
    "flush": {"every": "flush"},
}
MANY: Final = (16, 64)
SENSORS: Final = 20
SENSOR_RATE: Final = 100_000.0
SENSOR_FRAME_S: Final = 0.01
UNDER_WAY_EVENTS: Final = 1 << 18
"""Events that all sessions of a load at full speed have under way, but two frames of
each at least: enough that the engine never waits, few enough that a slice ends."""
LEAST_FRAMES: Final = 2


class Case(NamedTuple):
    """One load on the server.

    Attributes:
        model: The name of the model.
        sessions: How many sessions.
        frame_events: Events a frame.
        report: When results come, a name of `REPORTS`.
        rate: Events per second of each; None for full speed.
        label: Its name in the tables, where it is not that of its numbers.
    """

    model: str
    sessions: int
    frame_events: int
    report: str
    rate: float | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """The case's name: sessions × events a frame, or sessions at a rate."""
        if self.label:
            return self.label
        load = f"{self.sessions} × {self.frame_events:,}"
        if self.rate is not None:
            load = f"{self.sessions} at {self.rate:,.0f}/s"
        return f"{load}, {self.report}"

    def load(self, held_back: int, **opening: Any) -> Load:
        """Return what each session sends, with further fields of `open`."""
        share = UNDER_WAY_EVENTS // self.sessions
        return Load(
            {"model": served_name(self.model), "report": REPORTS[self.report]}
            | opening,
            self.frame_events,
            self.rate,
            max(share, LEAST_FRAMES * self.frame_events),
            held_back,
        )


def all_cases(model: str) -> list[Case]:
    """Return every case of a model but the overload."""
    if model == free_backend.NAME:
        return free_cases()
    single = [
        Case(model, 1, frame, report) for frame in FRAME_EVENTS for report in REPORTS
    ]
    many = [Case(model, sessions, 4096, "tick") for sessions in MANY]
    return [*single, *many, sensors(model)]


def free_cases() -> list[Case]:
    """Return the cases of the model that costs nothing."""
    return [
        Case(free_backend.NAME, 64, frame, report)
        for frame in FRAME_EVENTS
        for report in ("tick", "100 ms")
    ]


def quick_cases(model: str) -> list[Case]:
    """Return the few cases of a model that `--quick` measures."""
    if model == free_backend.NAME:
        return free_cases()
    found = [Case(model, 1, 4096, "tick")]
    if model == RANDOM_MODEL:
        found += [Case(model, 1, 4096, "100 ms"), Case(model, 1, 256, "tick")]
        found += [Case(model, 64, 4096, "tick")]
    if model == "motions":
        found.append(sensors(model))
    return found


def sensors(model: str, count: int = SENSORS, rate: float = SENSOR_RATE) -> Case:
    """Return the case of some real-time sensors."""
    return Case(model, count, max(1, round(rate * SENSOR_FRAME_S)), "tick", rate)


class Served(NamedTuple):
    """A model that the server serves, and the same model to drive directly.

    Attributes:
        name: The name here, as `dvs/small`.
        folder: Its checkpoint.
        model: Its weights.
    """

    name: str
    folder: Path
    model: Model


def served_name(name: str) -> str:
    """Return the name that the server has for a model."""
    return name.replace("/", "-")


@contextmanager
def served_models(names: Sequence[str]) -> Iterator[list[Served]]:
    """Yield models by name: dvs/small with random weights, released ones, or `free`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "random")
        if free_backend.NAME in names:  # alone: its server has no other
            yield [Served(free_backend.NAME, path, free_backend.save_free(path))]
            return
        yield [
            _random(path) if name == RANDOM_MODEL else loaded(checkpoint_of(name))
            for name in names
        ]


def checkpoint_of(name: str) -> Path:
    """Return the folder of a released model."""
    return next(path for path in released() if path.name == name)


def _random(path: Path) -> Served:
    model = draw(CONFIGURATIONS[RANDOM_MODEL])
    save_random(path, RANDOM_MODEL, model)
    return Served(RANDOM_MODEL, path, model)


def loaded(folder: Path) -> Served:
    """Return a released model."""
    checkpoint = load(folder)
    manifest: Manifest = checkpoint.manifest
    config = manifest.config
    variables = jax.device_put(checkpoint.variables)
    weights, fresh = fold(config, variables), init_carry(config, variables)
    return Served(manifest.name, folder, Model(config, variables, weights, fresh))


def shape_of(sessions: int) -> Shape:
    """Return the engine's shape for so many busy sessions, as the server runs them."""
    if sessions == 1:
        return Shape(1, 64)
    return Shape(8, 4) if sessions < 64 else Shape(64, 1)


class EngineRate:
    """A model driven directly, without a server, in slices.

    Args:
        model: The weights.
        shape: The work of one call.
    """

    def __init__(self, model: Model, shape: Shape) -> None:
        self._case = engine_cases.cases(model, [shape])[1]
        self._events = 0
        self._seconds = 0.0
        self._call()

    @property
    def events_per_s(self) -> float:
        """The rate of all slices together."""
        return self._events / self._seconds

    def clear(self) -> None:
        """Begin to measure anew."""
        self._events, self._seconds = 0, 0.0

    def run(self, seconds: float) -> None:
        """Run for so long."""
        self._call()  # the caches are another process's by now
        began_s = now_s = time.perf_counter()
        while now_s < began_s + seconds:
            self._call()
            self._events += self._case.events
            now_s = time.perf_counter()
        self._seconds += now_s - began_s

    def _call(self) -> None:
        jax.block_until_ready(self._case.call())  # type: ignore[no-untyped-call]

"""The task `motions`: scenes of the simulated camera, each from a seed of its own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.camera import simulate
from saccade.model.events.simulator.scenes import MOTIONS
from saccade.model.events.types import Events
from saccade.model.training.dataset import Samples, Split, Task, gather
from saccade.model.training.settings import SystemSettings
from saccade.model.training.typed import build

FIRST_SEED: Final[Mapping[str, int]] = {
    "train": 1_000_000_000,
    "validation": 2_000_000_000,
    "test": 3_000_000_000,
}
SCENES_AT_A_TIME: Final = 8


@dataclass(frozen=True)
class MotionsSettings:
    """The task's settings.

    Attributes:
        width: Of the simulated sensor.
        height: Of the simulated sensor.
        train_scenes: Scenes to simulate; a multiple of nine keeps classes even.
        validation_scenes: Scenes to simulate for validation.
        test_scenes: Scenes to simulate for the split `test`.
        duration_ms: Of a scene.
        max_events: Kept of a scene, from a random place.
    """

    name: str
    width: int
    height: int
    train_scenes: int
    validation_scenes: int
    test_scenes: int
    duration_ms: int
    max_events: int


def motions(
    values: Mapping[str, Any], data_dir: Path | None, system: SystemSettings
) -> Task:
    """Return the task; `Task.load` simulates the scenes."""
    settings = build(MotionsSettings, values, "task.")
    sensor = Sensor(settings.width, settings.height)
    load = partial(_load, settings, sensor, system.workers)
    return Task(settings.name, tuple(MOTIONS), sensor, "simulated by Saccade", load)


def _load(
    settings: MotionsSettings, sensor: Sensor, workers: int | None, split: Split
) -> Samples:
    count = {
        "train": settings.train_scenes,
        "validation": settings.validation_scenes,
        "test": settings.test_scenes,
    }[split]
    first = FIRST_SEED[split]
    seeds = range(first, first + count)
    scene = partial(_scene, settings, sensor)
    return gather(list(_spread(scene, seeds, workers)))


def _scene(settings: MotionsSettings, sensor: Sensor, seed: int) -> tuple[Events, int]:
    """Simulate one scene and return its class, which also follows from the seed."""
    label = seed % len(MOTIONS)
    events = simulate(
        MOTIONS[label],
        seed=seed,
        duration_us=settings.duration_ms * 1000,
        sensor=sensor,
    )
    spare = max(events.size - settings.max_events, 0)
    start = int(np.random.default_rng(seed).integers(spare + 1))
    return events[start : start + settings.max_events].copy(), label


def _spread(
    scene: partial[tuple[Events, int]], seeds: range, workers: int | None
) -> Iterator[tuple[Events, int]]:
    """Simulate in `workers` processes, in the seeds' order."""
    processes = os.cpu_count() or 1 if workers is None else workers
    if processes == 0:
        yield from map(scene, seeds)
        return
    # A fresh interpreter: JAX's threads in this one do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(scene, seeds, chunksize=SCENES_AT_A_TIME)

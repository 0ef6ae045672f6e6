"""Small data of our own making: digits as a 34×34 sensor might see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.events.types import EVENT_DTYPE, Events, Sensor

SENSOR = Sensor(34, 34)


def make_events(count: int, seed: int = 0, sensor: Sensor = SENSOR) -> Events:
    """Return events anywhere on the sensor, in time order."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, 300_000, count))
    events["x"] = rng.integers(sensor.width, size=count)
    events["y"] = rng.integers(sensor.height, size=count)
    events["p"] = rng.integers(2, size=count)
    return events


def write_bin(path: Path, events: Events) -> None:
    """Write N-MNIST's five bytes an event: x, y, p with a 23-bit time."""
    time = (events["p"].astype(np.uint32) << 23) | events["t"].astype(np.uint32)
    columns = [events["x"], events["y"], time >> 16, time >> 8 & 255, time & 255]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.stack(columns, axis=1).astype(np.uint8).tobytes())


def write_digits(folder: Path, each: int, count: int = 96) -> Path:
    """Write a data set in N-MNIST's layout: a digit is where its events lie."""
    for part, seed in (("Train", 0), ("Test", 1000)):
        for digit in range(10):
            for number in range(each):
                events = make_events(count, seed + 100 * digit + number)
                events["x"] = 3 * digit + events["x"] % 4
                write_bin(folder / part / str(digit) / f"{number:05}.bin", events)
    return folder

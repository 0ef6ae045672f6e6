"""Small data of our own making, in the layouts of the published data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.training.settings import SystemSettings
from tests.model.events.aedat_files import aedat_31, packet_31

SENSOR = Sensor(34, 34)
SYSTEM = SystemSettings(
    workers=0,
    loaders=0,
    prefetch_batches=2,
    devices=1,
    coordinator=None,
    processes=1,
    process=0,
)


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


def write_spikes(
    path: Path, words: Sequence[str], each: int, seed: int = 0, count: int = 80
) -> None:
    """Write a file in SHD's and SSC's layout: a word is where its spikes lie."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(words)), each)).astype(np.uint16)
    width = 700 // len(words)
    with h5py.File(path, "w") as file:
        for name, kind in (("times", np.float16), ("units", np.uint16)):
            file.create_dataset(
                f"spikes/{name}", (labels.size,), dtype=h5py.vlen_dtype(kind)
            )
        for place, label in enumerate(labels):
            seconds = np.sort(rng.uniform(0.0, 1.0, count)).astype(np.float16)
            units = int(label) * width + rng.integers(width, size=count)
            file["spikes/times"][place] = seconds
            file["spikes/units"][place] = units.astype(np.uint16)
        file["labels"] = labels
        file["extra/speaker"] = np.zeros(labels.size, np.uint16)
        file["extra/keys"] = np.array([word.encode() for word in words])


def write_gestures(folder: Path, trials: Mapping[str, Sequence[str]]) -> Path:
    """Write trials of all eleven gestures: a gesture is where its events lie.

    Args:
        folder: Where to.
        trials: The names of the trials of each part, `train` and `test`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part, names in trials.items():
        listed = "".join(f"{name}.aedat\n" for name in names)
        (folder / f"trials_to_{part}.txt").write_text(listed)
        for seed, name in enumerate(names):
            _write_trial(folder / f"{name}.aedat", seed)
    return folder


def _write_trial(path: Path, seed: int) -> None:
    """Write 1 s of each gesture, in packets of 64 events that gestures share."""
    lines, rows = ["class,startTime_usec,endTime_usec"], []
    for gesture in range(11):
        start = 2_000_000 * gesture + 500_000
        lines.append(f"{gesture + 1},{start},{start + 999_999}")
        events = make_events(160, 100 * seed + gesture, Sensor(10, 128))
        t_us = start - 200_000 + 5 * events["t"].astype(np.int64)
        x = 11 * gesture + events["x"].astype(np.int64)
        rows += list(zip(t_us.tolist(), x.tolist(), *_places(events), strict=True))
    packets = [packet_31(rows[i : i + 64]) for i in range(0, len(rows), 64)]
    path.write_bytes(aedat_31(packets))
    path.with_name(f"{path.stem}_labels.csv").write_text("\n".join(lines) + "\n")


def _places(events: Events) -> tuple[list[int], list[int]]:
    return events["y"].tolist(), events["p"].tolist()

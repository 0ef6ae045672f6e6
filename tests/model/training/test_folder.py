"""Training on one's own recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.events.types import Sensor
from model.training.dataset import Task
from model.training.errors import InvalidSetting, MalformedDataSet, MissingDataSet
from model.training.tasks import build_task
from tests.model.training.fixtures import SYSTEM, make_events

SETTINGS: dict[str, Any] = {
    "name": "folder",
    "width": 40,
    "height": 30,
    "recorded": [],
    "fit": "reject",
    "validation_share": 0.25,
}


def build(folder: Path | None, **changes: Any) -> Task:
    return build_task(SETTINGS | changes, folder, SYSTEM)


def write_csv(path: Path, sensor: Sensor, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    events = make_events(50, seed, sensor)
    rows = np.stack([events[name] for name in "txyp"], axis=1)
    np.savetxt(path, rows, fmt="%d", delimiter=",", header="t,x,y,p", comments="")


def write_gestures(folder: Path, sensor: Sensor) -> Path:
    for split in ("train", "test"):
        for seed, name in enumerate(("wave", "clap", "point")):
            for number in range(4):
                path = folder / split / name / f"{number}.csv"
                write_csv(path, sensor, 10 * seed + number)
    (folder / "train" / "wave" / "notes.txt").write_text("not a recording")
    return folder


def test_classes_are_the_folders_in_alphabetical_order(tmp_path: Path) -> None:
    task = build(write_gestures(tmp_path, Sensor(40, 30)), recorded=[40, 30])
    assert task.labels == ("clap", "point", "wave")
    sizes = [len(task.load(split).events) for split in ("train", "validation", "test")]
    assert sizes == [9, 3, 12]


def test_recordings_of_another_sensor_are_fitted_as_declared(tmp_path: Path) -> None:
    folder = write_gestures(tmp_path, Sensor(80, 60))
    task = build(folder, recorded=[80, 60], fit="scale")
    for events in task.load("test").events:
        assert events.size == 50
        assert events["x"].max() < 40
        assert events["y"].max() < 30


def test_a_recording_of_another_sensor_is_named_unless_a_fit_is_declared(
    tmp_path: Path,
) -> None:
    task = build(write_gestures(tmp_path, Sensor(80, 60)), recorded=[80, 60])
    refusal = r"clap.0\.csv: .*80x60 sensor where 40x30"
    with pytest.raises(MalformedDataSet, match=refusal):
        task.load("train")


def test_a_class_without_recordings_is_named(tmp_path: Path) -> None:
    folder = write_gestures(tmp_path, Sensor(40, 30))
    for file in (folder / "test" / "wave").iterdir():
        file.unlink()
    with pytest.raises(MalformedDataSet, match=r"test.wave: holds no recording"):
        build(folder, recorded=[40, 30]).load("test")


def test_one_class_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    write_csv(tmp_path / "train" / "wave" / "0.csv", Sensor(40, 30), 0)
    with pytest.raises(MalformedDataSet, match="fewer than two classes"):
        build(tmp_path)


def test_a_missing_folder_says_how_to_lay_recordings_out(tmp_path: Path) -> None:
    with pytest.raises(MissingDataSet, match="FOLDER/train/<class>/<recording>"):
        build(tmp_path / "nowhere")
    with pytest.raises(MissingDataSet, match="data_dir is not given"):
        build(None)


def test_a_geometry_of_three_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"task\.recorded"):
        build(write_gestures(tmp_path, Sensor(40, 30)), recorded=[1, 2, 3])

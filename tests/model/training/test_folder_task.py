"""Training on one's own recordings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.model.checkpoint import load
from saccade.model.events.sensor import Sensor
from saccade.model.training import cli
from saccade.model.training.dataset import Task
from saccade.model.training.errors import (
    InvalidSetting,
    MalformedDataSet,
    MissingDataSet,
)
from saccade.model.training.tasks import build_task
from tests.model.events.aedat_files import HEADER_31, aedat_31, dvs128_2, packet_31
from tests.model.events.test_recordings import (
    csv_bytes,
    dat_bytes,
    evt2_bytes,
    evt3_bytes,
)
from tests.model.training.fixtures import SYSTEM, make_events
from tests.model.training.test_loop import TINY

SETTINGS: dict[str, Any] = {
    "name": "folder",
    "width": 40,
    "height": 30,
    "recorded": [],
    "chip": None,
    "camera": None,
    "fit": "reject",
    "truncated": "refuse",
    "invalid": "reject",
    "sort_within_us": 0,
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


def test_a_stray_event_is_skipped_or_rejected_as_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_gestures(tmp_path, Sensor(40, 30))
    events = make_events(50, 0, Sensor(40, 30))
    events["x"][20] = 41
    events[[30, 31]] = events[[31, 30]]
    events["t"][30] = events["t"][31] + 1
    np.save(folder / "test" / "clap" / "0.npy", events)
    (folder / "test" / "clap" / "0.csv").unlink()
    with pytest.raises(MalformedDataSet, match="x = 41"):
        build(folder, recorded=[40, 30]).load("test")
    samples = build(folder, recorded=[40, 30], invalid="skip").load("test")
    assert sorted({len(each) for each in samples.events}) == [48, 50]
    assert (
        "2 invalid events are left out; the first: event 20 has x = 41" in caplog.text
    )
    sorting = build(folder, recorded=[40, 30], invalid="skip", sort_within_us=1)
    assert sorted({len(each) for each in sorting.load("test").events}) == [49, 50]


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


def test_a_text_file_beside_recordings_is_a_note(tmp_path: Path) -> None:
    folder = write_gestures(tmp_path, Sensor(40, 30))
    before = build(folder, recorded=[40, 30]).load("test").labels.tolist()
    (folder / "test" / "wave" / "README.txt").write_text("filmed on a Tuesday")
    assert build(folder, recorded=[40, 30]).load("test").labels.tolist() == before


def write_mixed(folder: Path) -> Path:
    """Write the same kind of events in every format that a camera's software writes."""
    for split, seed in (("train", 0), ("test", 50)):
        for place, name in enumerate(("clap", "wave")):
            home = folder / split / name
            home.mkdir(parents=True)
            events = make_events(80, seed + place, Sensor(30, 128))
            events["x"] += 60 * place
            rows = events.tolist()
            (home / "a.csv").write_bytes(csv_bytes(rows))
            (home / "b.dat").write_bytes(dat_bytes(rows))
            (home / "c.raw").write_bytes(evt2_bytes(rows))
            (home / "d.raw").write_bytes(evt3_bytes(rows))
            (home / "e.aedat2").write_bytes(dvs128_2(rows))
            (home / "f.aedat").write_bytes(aedat_31([packet_31(rows)]))
            np.save(home / "g.npy", events)
    return folder


MIXED: dict[str, Any] = {"recorded": [128, 128], "width": 128, "height": 128}


def test_recordings_of_every_format_are_the_same_events(tmp_path: Path) -> None:
    samples = build(write_mixed(tmp_path), **MIXED).load("test")
    assert samples.labels.tolist() == [0] * 7 + [1] * 7
    for place, events in enumerate(samples.events):
        assert events.tolist() == samples.events[place // 7 * 7].tolist(), place


@pytest.mark.slow
def test_a_folder_of_mixed_formats_trains_from_the_command_line(
    tmp_path: Path,
) -> None:
    words = [
        "task=folder",
        f"data_dir={write_mixed(tmp_path / 'data')}",
        f"output_dir={tmp_path / 'outputs'}",
        "task.width=128",
        "task.height=128",
        "task.recorded=[128,128]",
        *(word for word in TINY if not word.startswith("task=")),
    ]
    assert cli.train(words) == 0
    (run,) = (tmp_path / "outputs" / "folder").iterdir()
    assert load(run / "best").manifest.labels == ("clap", "wave")


@pytest.mark.parametrize("damage", ["cut", "replaced", "emptied"])
def test_a_corrupt_file_in_the_middle_of_a_set_is_named(
    damage: str, tmp_path: Path
) -> None:
    file = write_mixed(tmp_path) / "train" / "clap" / "e.aedat2"
    whole = file.read_bytes()
    damaged = {"cut": whole[:-3], "replaced": b"no recording", "emptied": b""}
    file.write_bytes(damaged[damage])
    with pytest.raises(MalformedDataSet, match=r"clap.e\.aedat2: "):
        build(tmp_path, **MIXED).load("train")


def test_a_class_of_train_that_test_has_no_folder_of_is_named(tmp_path: Path) -> None:
    folder = write_mixed(tmp_path)
    shutil.rmtree(folder / "test" / "wave")
    with pytest.raises(MalformedDataSet, match=r"test.wave: holds no recording"):
        build(folder, **MIXED).load("test")


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


def test_the_recordings_say_the_sensor_where_no_setting_does(tmp_path: Path) -> None:
    folder = write_mixed(tmp_path)
    for file in folder.rglob("*"):
        if file.suffix not in {".aedat", ".aedat2", ""} or file.name == "e.aedat2":
            file.unlink() if file.is_file() else None
    task = build(folder, width=None, height=None)
    assert task.sensor == Sensor(128, 128)
    assert len(task.load("test").events) == 2


def test_a_sensor_guessed_from_the_events_is_announced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_gestures(tmp_path, Sensor(40, 30))
    task = build(folder, width=None, height=None)
    assert (task.sensor.width, task.sensor.height) == (40, 30)
    assert "40x30 is guessed from the events" in caplog.text
    caplog.clear()
    assert len(task.load("test").events) == 12
    assert not caplog.text, "the model's sensor holds all events"


def test_recordings_of_two_sensors_are_named(tmp_path: Path) -> None:
    folder = write_mixed(tmp_path)
    for name in ("clap", "wave"):
        for file in (folder / "train" / name).iterdir():
            file.unlink()
    raw = evt3_bytes([(0, 1, 2, 1)], b"% evt 3.0\n% geometry 640x480\n% end\n")
    (folder / "train" / "wave" / "a.raw").write_bytes(raw)
    data = aedat_31([packet_31([(0, 1, 2, 1)])])
    (folder / "train" / "clap" / "b.aedat").write_bytes(data)
    differ = r"recordings differ: 128x128 of b\.aedat, 640x480 of a\.raw"
    with pytest.raises(InvalidSetting, match=differ):
        build(folder, width=None, height=None)
    with pytest.raises(InvalidSetting, match="set together"):
        build(folder, width=None)


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", ".git"])
def test_hidden_folders_are_no_classes(name: str, tmp_path: Path) -> None:
    folder = write_gestures(tmp_path, Sensor(40, 30))
    (folder / "train" / name).mkdir()
    (folder / "train" / "wave" / "._0.csv").write_bytes(b"\0\5\26\7")
    task = build(folder)
    assert task.labels == ("clap", "point", "wave")
    assert len(task.load("train").events) == 9


def test_a_cut_recording_is_read_up_to_there_where_that_is_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_mixed(tmp_path) / "test" / "clap" / "e.aedat2"
    file.write_bytes(file.read_bytes()[:-3])
    samples = build(tmp_path, **MIXED, truncated="read").load("test")
    assert [events.size for events in samples.events[:7]] == [80] * 4 + [79] + [80] * 2
    assert "e.aedat2: truncated" in caplog.text


def test_a_setting_chooses_the_camera_of_files_that_hold_several(
    tmp_path: Path,
) -> None:
    folder = write_gestures(tmp_path, Sensor(40, 30))
    header = HEADER_31.replace(b"DVS128", b"DAVIS240C\r\n#Source 2: DVS128")
    rows = [(t, t, t, 1) for t in range(20)]
    for split in ("train", "test"):
        for name in ("wave", "clap", "point"):
            for file in (folder / split / name).iterdir():
                file.unlink()
            parts = [packet_31(rows), packet_31(rows[:7], source=2)]
            file = folder / split / name / "a.aedat"
            file.write_bytes(aedat_31(parts, header))
    task = build(folder, width=None, height=None, camera="2")
    assert task.sensor == Sensor(128, 128)
    assert [events.size for events in task.load("test").events] == [7, 7, 7]

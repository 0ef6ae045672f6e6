"""The paper's three tasks, from small files in the publishers' formats."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from saccade.model.training import cli
from saccade.model.training.dataset import Task
from saccade.model.training.errors import MalformedDataSet, MissingDataSet
from saccade.model.training.tasks import build_task
from tests.model.events.aedat_files import aedat_31, packet_31
from tests.model.training.fixtures import SYSTEM, write_gestures, write_spikes
from tests.model.training.test_loop import TINY

CHOICE = {"validation_share": 0.25, "validate_on_test": False}
DIGITS = {"name": "spiking-heidelberg-digits", **CHOICE}
COMMANDS = {"name": "spiking-speech-commands"}
GESTURES = {"name": "dvs-gesture", **CHOICE}
WORDS = ("zero", "eins", "zwei", "three")
TRIALS = {"train": ["user01_led", "user02_lab"], "test": ["user24_led"]}


@pytest.fixture(scope="module")
def shd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shd")
    write_spikes(folder / "shd_train.h5", WORDS, each=4)
    write_spikes(folder / "shd_test.h5", WORDS, each=2, seed=1)
    return folder


@pytest.fixture(scope="module")
def ssc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ssc")
    for part, each in (("train", 3), ("valid", 1), ("test", 2)):
        write_spikes(folder / f"ssc_{part}.h5", WORDS, each, seed=each)
    return folder


@pytest.fixture(scope="module")
def gestures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gestures(tmp_path_factory.mktemp("dvs"), TRIALS)


def sizes(task: Task) -> list[int]:
    splits = ("train", "validation", "test")
    return [len(task.load(split).events) for split in splits]  # type: ignore[arg-type]


def test_recordings_are_read_by_whoever_they_are_sent_to(shd: Path) -> None:
    samples = build_task(DIGITS, shd, SYSTEM).load("train")
    before = list(samples.events)  # the file is open now, and stays behind
    sent = pickle.loads(pickle.dumps(samples))
    for ours, theirs in zip(before, sent.events, strict=True):
        assert np.array_equal(ours, theirs)


def test_words_come_in_the_files_own_order(shd: Path) -> None:
    task = build_task(DIGITS, shd, SYSTEM)
    assert task.labels == WORDS
    assert sizes(task) == [12, 4, 8]
    samples = task.load("test")
    for events, label in zip(samples.events, samples.labels, strict=True):
        assert set((events["x"] // 175).tolist()) == {label}


def test_seconds_become_microseconds_from_the_first_spike(shd: Path) -> None:
    with h5py.File(shd / "shd_test.h5") as file:
        seconds = file["spikes/times"][3].astype(np.float64)
    events = build_task(DIGITS, shd, SYSTEM).load("test").events[3]
    t_us = np.rint(seconds * 1e6)
    assert events["t"].tolist() == (t_us - t_us[0]).tolist()
    assert not events["y"].any()
    assert not events["p"].any()


def test_commands_have_a_file_for_validation(ssc: Path) -> None:
    assert sizes(build_task(COMMANDS, ssc, SYSTEM)) == [12, 4, 8]


@pytest.mark.parametrize("values", [DIGITS, GESTURES], ids=["digits", "gestures"])
def test_validation_is_on_test_only_when_asked_in_so_many_words(
    values: dict[str, Any], shd: Path, gestures: Path
) -> None:
    folder = shd if values is DIGITS else gestures
    asked = build_task(values | {"validate_on_test": True}, folder, SYSTEM)
    plain = build_task(values, folder, SYSTEM)
    train, validation, test = sizes(asked)
    assert validation == test
    assert train == sum(sizes(plain)[:2])


def test_a_gesture_is_what_lies_in_its_window(gestures: Path) -> None:
    task = build_task(GESTURES, gestures, SYSTEM)
    assert sizes(task) == [11, 11, 11]
    samples = task.load("test")
    assert sorted(samples.labels.tolist()) == list(range(11))
    for events, label in zip(samples.events, samples.labels, strict=True):
        assert set((events["x"] // 11).tolist()) == {label}
        assert events["t"][0] == 0
        assert events["t"][-1] <= 999_999
        assert 0 < events.size < 160, "what lies before and after is another's"


@pytest.mark.parametrize(
    "values", [DIGITS, COMMANDS, GESTURES], ids=lambda v: v["name"]
)
def test_a_missing_data_set_says_what_how_big_and_where(
    values: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(MissingDataSet) as caught:
        build_task(values, tmp_path, SYSTEM).load("train")
    text = str(caught.value)
    assert str(tmp_path) in text
    assert "download" in text.lower()
    assert "GB" in text or "MB" in text
    assert "FOLDER/" in text
    with pytest.raises(MissingDataSet, match="data_dir is not given"):
        build_task(values, None, SYSTEM).load("train")


def damage(file: h5py.File, name: str, value: Any) -> None:
    if name == "spikes/units":
        for place in range(16):
            file[name][place] = value
        return
    del file[name]
    if value is not None:
        file[name] = value


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("labels", np.arange(3), "16 times, 16 units and 3 labels"),
        ("labels", np.full(16, 9), "labels 9 to 9 for 4 words"),
        ("extra/keys", None, "no data set extra/keys"),
        ("spikes/units", np.full(80, 700, np.uint16), "a channel above 699"),
        ("spikes/units", np.zeros(79, np.uint16), "has 80 times, 79 units"),
        ("spikes/units", np.zeros(0, np.uint16), "has 80 times, 0 units"),
    ],
)
def test_wrong_spike_files_are_named_with_the_reason(
    name: str, value: Any, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "shd_train.h5"
    write_spikes(path, WORDS, each=4)
    with h5py.File(path, "a") as file:
        damage(file, name, value)
    with pytest.raises(MalformedDataSet, match=reason) as caught:
        list(build_task(DIGITS, tmp_path, SYSTEM).load("train").events)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_hdf5_is_named(tmp_path: Path) -> None:
    (tmp_path / "shd_train.h5").write_bytes(b"not HDF5")
    with pytest.raises(MalformedDataSet, match=r"shd_train\.h5: no readable HDF5"):
        build_task(DIGITS, tmp_path, SYSTEM)


def test_wrong_trials_are_named_with_the_reason(tmp_path: Path) -> None:
    def refused(reason: str) -> None:
        with pytest.raises(MalformedDataSet, match=reason):
            list(build_task(GESTURES, tmp_path, SYSTEM).load("test").events)

    write_gestures(tmp_path, {"test": ["user24_led"]})
    trial, table = tmp_path / "user24_led.aedat", tmp_path / "user24_led_labels.csv"
    good_trial, good_table = trial.read_bytes(), table.read_text()
    table.write_text(good_table + "12,0,5\n")
    refused("line 13: class 12")
    table.write_text(good_table.replace("startTime_usec", "start"))
    refused(r"user24_led_labels\.csv: line 2 has not class, startTime_usec")
    table.write_text(good_table + "1,900000000,900000001\n")
    refused("no events from 900000000")
    table.unlink()
    refused("missing: it says when")
    table.write_text(good_table)
    trial.write_bytes(good_trial[:-3])
    refused(r"user24_led\.aedat: .*truncated")
    trial.write_bytes(aedat_31([packet_31([(500_000, 128, 0, 0)])]))
    refused("x = 128")
    trial.unlink()
    refused(r"named in trials_to_test\.txt, missing")


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", [DIGITS, COMMANDS, GESTURES], ids=lambda values: values["name"]
)
def test_two_steps_from_the_command_line(
    task: dict[str, Any],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixture = {DIGITS["name"]: "shd", COMMANDS["name"]: "ssc"}.get(
        task["name"], "gestures"
    )
    words = [
        f"task={task['name']}",
        f"data_dir={request.getfixturevalue(fixture)}",
        f"output_dir={tmp_path}",
        "model.pooling_stride=8",
        "model.state_expansion_factor=1",
        *(w for w in TINY if not w.startswith("task")),
    ]
    assert cli.train(words) == 0
    (run,) = (tmp_path / task["name"]).iterdir()
    capsys.readouterr()
    assert cli.evaluate([*words, f"checkpoint={run}", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["samples"] == (11 if task is GESTURES else 8)

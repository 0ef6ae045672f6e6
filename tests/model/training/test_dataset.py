from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.training.dataset import hold_out
from saccade.model.training.errors import MalformedDataSet, MissingDataSet
from saccade.model.training.tasks import build_task
from tests.model.training.fixtures import SYSTEM, make_events, write_bin, write_digits

NMNIST = {"name": "nmnist", "validation_share": 0.25}
MOTIONS = {
    "name": "motions",
    "width": 32,
    "height": 24,
    "train_scenes": 9,
    "validation_scenes": 9,
    "test_scenes": 9,
    "duration_ms": 30,
    "max_events": 200,
}
SMALL = Path(__file__).parents[4] / "shared" / "nmnist-small"


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.0, 0.9), st.data()
)
def test_every_class_gives_the_same_share_to_validation(
    labels: list[int], share: float, data: st.DataObject
) -> None:
    array = np.array(labels, dtype=np.int64)
    kept, held = hold_out(array, share)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(array.size))
    for label in set(labels):
        members = labels.count(label)
        gone = int((array[held] == label).sum())
        assert gone < members, "training keeps some of each class"
        assert abs(gone - share * members) <= 1.0


def test_the_same_samples_are_held_out_every_time() -> None:
    labels = np.repeat(np.arange(10), 8)
    first, again = hold_out(labels, 0.25), hold_out(labels, 0.25)
    assert np.array_equal(first[1], again[1])


def test_digits_are_read_with_their_labels(tmp_path: Path) -> None:
    task = build_task(NMNIST, write_digits(tmp_path, each=4), SYSTEM)
    train, validation = task.load("train"), task.load("validation")
    assert (len(train.events), len(validation.events)) == (30, 10)
    for events, label in zip(train.events, train.labels, strict=True):
        assert events.size == 96
        assert set((events["x"] // 3).tolist()) <= {label, label + 1}


def test_validation_comes_from_train_and_never_from_test(tmp_path: Path) -> None:
    folder = write_digits(tmp_path, each=4)
    for file in (folder / "Test").rglob("*.bin"):
        file.unlink()
    task = build_task(NMNIST, folder, SYSTEM)
    assert len(task.load("validation").events) == 10
    with pytest.raises(MalformedDataSet, match=r"Test.0: holds no \.bin"):
        task.load("test")


def test_a_missing_data_set_says_what_to_download_and_where_to_put_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(MissingDataSet) as caught:
        build_task(NMNIST, tmp_path / "nowhere", SYSTEM).load("train")
    text = str(caught.value)
    assert str(tmp_path / "nowhere" / "Train") in text
    assert "1.0 GB" in text
    assert "Train/<digit>/<id>.bin" in text
    with pytest.raises(MissingDataSet, match="data_dir is not given"):
        build_task(NMNIST, None, SYSTEM).load("test")


def test_a_digit_without_recordings_is_named(tmp_path: Path) -> None:
    write_bin(tmp_path / "Train" / "0" / "00001.bin", make_events(10))
    with pytest.raises(MalformedDataSet, match=r"Train.1: holds no"):
        build_task(NMNIST, tmp_path, SYSTEM).load("train")


def test_scenes_have_every_class_and_no_split_shares_one() -> None:
    task = build_task(MOTIONS, None, SYSTEM)
    splits = [task.load(split) for split in ("train", "validation", "test")]
    for samples in splits:
        assert sorted(samples.labels.tolist()) == list(range(9))
        assert all(0 < events.size <= 200 for events in samples.events)
        assert all((events["x"] < 32).all() for events in samples.events)
    streams = {events.tobytes() for samples in splits for events in samples.events}
    assert len(streams) == 27


def test_the_same_seeds_simulate_the_same_scenes() -> None:
    task = build_task(MOTIONS, None, SYSTEM)
    for first, again in zip(
        task.load("test").events, task.load("test").events, strict=True
    ):
        assert np.array_equal(first, again)


@pytest.mark.skipif(not SMALL.is_dir(), reason="shared/nmnist-small is not there")
def test_the_small_part_of_nmnist_has_its_900_samples() -> None:
    task = build_task(NMNIST | {"validation_share": 0.1}, SMALL, SYSTEM)
    sizes = [len(task.load(s).events) for s in ("train", "validation", "test")]
    assert sum(sizes) == 900
    assert sizes[1] == 80
    assert sizes[2] == 100

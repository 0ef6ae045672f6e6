from __future__ import annotations

import itertools

import numpy as np
import pytest

from saccade.clients.errors import UnplayableSource
from saccade.clients.sources import Timeline, open_source
from saccade.model.events.sensor import Sensor


def write_nmnist(path, count):
    """Write `count` N-MNIST records: x, y, then polarity and 23 bits of time."""
    records = np.zeros((count, 5), np.uint8)
    records[:, 0] = np.arange(count) % 34
    times = 100 * np.arange(count)
    records[:, 2] = times >> 16
    records[:, 3] = times >> 8 & 255
    records[:, 4] = times & 255
    path.write_bytes(records.tobytes())
    return str(path)


def test_a_recording_is_named_by_its_file(tmp_path):
    source = open_source(write_nmnist(tmp_path / "00001.bin", 20))
    assert (source.name, source.sensor, source.model) == (
        "00001.bin",
        Sensor(34, 34),
        None,
    )
    assert sum(chunk.size for chunk in source.chunks) == 20
    assert not source.changes


def test_the_simulated_camera_plays_for_the_seconds_of_its_name():
    source = open_source("sim:motions?seed=5&seconds=0.2&segment=0.1")
    events = np.concatenate(list(source.chunks))
    assert source.model == "motions"
    assert source.changes
    assert events["t"].max() < 200_000
    assert np.all(np.diff(events["t"]) >= 0)
    assert source.truth.at(50_000) != source.truth.at(150_000)


def test_a_seed_makes_the_same_scene_again():
    first, again = (
        np.concatenate(list(itertools.islice(open_source(name).chunks, 3)))
        for name in ["sim:motions?seed=5"] * 2
    )
    assert np.array_equal(first, again)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nowhere.bin", "no such file"),
        ("sim:boats", "sim:motions"),
        ("sim:motions?sede=5", "no setting 'sede'"),
        ("sim:motions?seed=x", "seed is no number"),
        ("sim:motions?seconds=0", "seconds is out of range"),
        ("sim:motions?seconds=nan", "seconds is out of range"),
    ],
)
def test_what_cannot_be_played_says_why(text, reason):
    with pytest.raises(UnplayableSource, match=reason):
        open_source(text)


def test_a_file_of_another_kind_says_what_can_be_read(tmp_path):
    (tmp_path / "notes.pdf").write_text("no events")
    with pytest.raises(UnplayableSource, match=r"\.bin"):
        open_source(str(tmp_path / "notes.pdf"))


def test_a_timeline_knows_what_happens_between_its_marks():
    timeline = Timeline()
    timeline.append(100, "left")
    timeline.append(200, "left")
    timeline.append(300, "right")
    assert [timeline.at(t) for t in (0, 100, 299, 300, 9999)] == [
        None, "left", "left", "right", "right",
    ]  # fmt: skip

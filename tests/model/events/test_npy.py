"""Recordings in NumPy's files, .npy and .npz."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE

ROWS = [(1_000, 3, 2, 1), (1_000, 0, 0, 0), (1_250, 9, 6, 1)]


@pytest.mark.parametrize("extension", [".npy", ".npz"])
@pytest.mark.parametrize("time", ["t", "timestamp"])
def test_a_numpy_array_is_read(tmp_path, extension, time):
    events = np.array(ROWS, [(time, "u8"), ("x", "i2"), ("y", "i2"), ("on", "?")])
    path = tmp_path / f"a{extension}"
    if extension == ".npy":
        np.save(path, events)
    else:
        np.savez_compressed(path, events=events, label=np.array(3))
    recording = open_recording(path)
    assert recording.sensor == Sensor(10, 7)
    assert next(recording.events).tolist() == [
        (0, 3, 2, 1),
        (0, 0, 0, 0),
        (250, 9, 6, 1),
    ]


@pytest.mark.parametrize("name", ["event_data", "arr_0"])
def test_a_usual_name_is_found_among_others(tmp_path, name):
    path = tmp_path / "a.npz"
    events = np.array(ROWS, EVENT_DTYPE)
    np.savez(path, **{name: events, "label": np.array(3), "image": np.zeros((2, 4))})
    assert len(next(open_recording(path).events)) == len(ROWS)


def test_a_truncated_array_is_malformed(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array(ROWS, EVENT_DTYPE))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(MalformedRecording, match="3 events announced"):
        open_recording(path)


def test_a_truncated_archive_is_malformed(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, np.array(ROWS, EVENT_DTYPE))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(MalformedRecording, match="npz"):
        open_recording(path)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3)), np.zeros(4), np.array([{}], object)]
)
def test_other_arrays_are_malformed(tmp_path, array):
    path = tmp_path / "a.npy"
    np.save(path, array)
    with pytest.raises(MalformedRecording, match="array"):
        open_recording(path)


def test_several_unnamed_arrays_are_unsupported(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(1, EVENT_DTYPE), b=np.zeros(1))
    with pytest.raises(UnsupportedRecording, match="2 arrays, none named events"):
        open_recording(path)

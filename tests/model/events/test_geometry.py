"""Where a recording's geometry is from: never guessed in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.model.events.reading import ReadOptions
from saccade.model.events.recordings import Recording, open_recording
from saccade.model.events.sensor import Sensor
from tests.model.events.test_recordings import csv_bytes, dat_bytes, evt2_bytes

ROWS = [(0, 29, 19, 1), (9, 3, 4, 0)]
NAMED = b"% Version 2\n% Width 304\n% Height 240\n"


def opened(path: Path, data: bytes, **options: Sensor) -> Recording:
    path.write_bytes(data)
    return open_recording(path, options=ReadOptions(**options))


def test_the_file_comes_first(tmp_path):
    recording = opened(tmp_path / "a.dat", dat_bytes(ROWS, NAMED))
    assert (recording.sensor, recording.origin) == (Sensor(304, 240), "header")


def test_a_given_geometry_that_differs_is_not_taken_and_that_is_said(tmp_path):
    data = dat_bytes(ROWS, NAMED)
    recording = opened(tmp_path / "a.dat", data, sensor=Sensor(640, 480))
    assert (recording.sensor, recording.origin) == (Sensor(304, 240), "header")
    assert recording.findings.warnings == [
        "its sensor is 304x240, as the file says, not 640x480"
    ]


def test_a_given_geometry_is_taken_where_the_file_is_wrong(tmp_path):
    data = dat_bytes([*ROWS, (10, 400, 5, 1)], NAMED)
    recording = opened(tmp_path / "a.dat", data, sensor=Sensor(640, 480))
    assert (recording.sensor, recording.origin) == (Sensor(640, 480), "given")


@pytest.mark.parametrize(
    ("options", "sensor", "origin"),
    [
        ({"sensor": Sensor(99, 98)}, Sensor(99, 98), "given"),
        ({"model_sensor": Sensor(34, 34)}, Sensor(34, 34), "model"),
        ({"model_sensor": Sensor(29, 34)}, Sensor(30, 20), "guess"),
        (
            {"sensor": Sensor(99, 98), "model_sensor": Sensor(34, 34)},
            Sensor(99, 98),
            "given",
        ),
        ({}, Sensor(30, 20), "guess"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.dat"])
def test_then_the_caller_the_model_and_a_guess(tmp_path, name, options, sensor, origin):
    data = csv_bytes(ROWS) if name == "a.csv" else dat_bytes(ROWS)
    recording = opened(tmp_path / name, data, **options)
    assert (recording.sensor, recording.origin) == (sensor, origin)


def test_the_models_sensor_is_taken_before_a_common_one(tmp_path):
    data = evt2_bytes(ROWS)
    recording = opened(tmp_path / "a.raw", data, model_sensor=Sensor(128, 128))
    assert (recording.sensor, recording.origin) == (Sensor(128, 128), "model")
    assert opened(tmp_path / "b.raw", data).sensor == Sensor(640, 480)

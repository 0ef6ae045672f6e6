"""Recordings split into several files continue one stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.reading import ReadOptions
from saccade.model.events.recordings import Recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.split import open_split
from tests.model.events.aedat_files import aedat_31, packet_31, special_31
from tests.model.events.test_recordings import csv_bytes, dat_bytes


def rows(recording: Recording) -> list[tuple[int, ...]]:
    return np.concatenate([*recording.events]).tolist()


def write(folder: Path, *parts: bytes, suffix: str = ".csv") -> list[Path]:
    paths = [folder / f"{number}{suffix}" for number in range(len(parts))]
    for path, data in zip(paths, parts, strict=True):
        path.write_bytes(data)
    return paths


def test_the_pause_between_two_files_of_one_clock_is_kept(tmp_path):
    parts = csv_bytes([(100, 1, 2, 1)]), csv_bytes([(150, 3, 4, 0), (160, 0, 0, 1)])
    recording = open_split(write(tmp_path, *parts))
    assert rows(recording) == [(0, 1, 2, 1), (50, 3, 4, 0), (60, 0, 0, 1)]
    assert recording.findings.start_us == 100
    assert not recording.findings.warnings


def test_time_goes_on_where_a_files_clock_begins_anew(tmp_path):
    part = csv_bytes([(100, 1, 2, 1), (130, 1, 2, 1)])
    recording = open_split(write(tmp_path, part, part, part))
    assert [row[0] for row in rows(recording)] == [0, 30, 30, 60, 60, 90]
    assert recording.findings.warnings == [
        f"{n}.csv: its clock begins anew; time goes on without a pause" for n in (1, 2)
    ]


def test_a_guessed_sensor_holds_the_events_of_all_files(tmp_path):
    parts = csv_bytes([(0, 9, 2, 1)]), csv_bytes([(1, 3, 19, 0)])
    recording = open_split(write(tmp_path, *parts))
    assert (recording.sensor, recording.origin) == (Sensor(10, 20), "guess")


def test_files_of_different_sensors_are_refused_by_name(tmp_path):
    parts = [
        dat_bytes([(0, 1, 1, 1)], f"% Width {width}\n% Height 240\n".encode())
        for width in (304, 320)
    ]
    with pytest.raises(UnsupportedRecording, match=r"1\.dat: its sensor is 320x240"):
        open_split(write(tmp_path, *parts, suffix=".dat"))


def test_a_damaged_file_is_named(tmp_path):
    paths = write(tmp_path, csv_bytes([(0, 1, 1, 1)]), csv_bytes([(0, -1, 1, 1)]))
    with pytest.raises(MalformedRecording, match=r"1\.csv: .*x = -1"):
        rows(open_split(paths, ReadOptions(sensor=Sensor(9, 9))))


def test_what_was_skipped_and_triggered_is_that_of_all_files(tmp_path):
    part = aedat_31([packet_31([(10, 1, 1, 1), (20, 1, 1, 1)]), special_31([(2, 15)])])
    recording = open_split(write(tmp_path, part, part, suffix=".aedat"))
    assert len(rows(recording)) == 4
    assert [trigger.t_us for trigger in recording.findings.triggers] == [5, 15]

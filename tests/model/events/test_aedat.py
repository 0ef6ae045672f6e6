"""Recordings in AEDAT 2 and 3.1, the formats of jAER and cAER."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.formats import aedat3
from saccade.model.events.reading import ReadOptions
from saccade.model.events.recordings import Recording, open_recording
from saccade.model.events.sensor import Sensor
from tests.model.events.aedat_files import (
    HEADER_31,
    aedat_31,
    dvs128_2,
    head_31,
    packet_31,
    special_31,
)

ROWS = [(1_000, 3, 2, 1), (1_000, 0, 0, 0), (1_250, 127, 127, 1)]
REBASED = [(0, 3, 2, 1), (0, 0, 0, 0), (250, 127, 127, 1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.aedat"


def read(path: Path, data: bytes) -> tuple[Sensor, list[tuple[int, ...]]]:
    path.write_bytes(data)
    recording = open_recording(path)
    return recording.sensor, np.concatenate(list(recording.events)).tolist()


def test_packets_of_31_follow_one_another(path):
    data = aedat_31([packet_31(ROWS[:1]), packet_31([]), packet_31(ROWS[1:])])
    assert read(path, data) == (Sensor(128, 128), REBASED)


def test_packets_of_other_kinds_are_skipped(path):
    frame = head_31(kind=2, size=40, number=1, valid=1) + bytes(40)
    assert read(path, aedat_31([frame, packet_31(ROWS), frame]))[1] == REBASED


def test_events_marked_invalid_are_left_out(path):
    data = aedat_31([packet_31(ROWS, valid=[True, False, True])])
    assert read(path, data)[1] == [REBASED[0], REBASED[2]]


def test_a_clock_of_31_bits_continues_in_the_next_epoch(path):
    late = packet_31([(2**31 - 1, 0, 0, 0)])
    data = aedat_31([late, packet_31([(4, 0, 0, 1)], epoch=1)])
    assert [row[0] for row in read(path, data)[1]] == [0, 5]


def test_large_packets_come_in_chunks(path, monkeypatch):
    monkeypatch.setattr(aedat3, "CHUNK_EVENTS", 2)
    path.write_bytes(aedat_31([packet_31(ROWS)]))
    assert [chunk.size for chunk in open_recording(path).events] == [2, 1]


def test_an_unnamed_camera_of_31_has_its_events_bounds(path):
    header = HEADER_31.replace(b"DVS128", b"Prototype")
    assert read(path, aedat_31([packet_31(ROWS[:2])], header))[0] == Sensor(4, 3)


TWO_CAMERAS = HEADER_31.replace(
    b"#Source 1: DVS128", b"#Source 1: DAVIS240C\r\n#Source 2: DVS128"
)


class TestSeveralCameras:
    DATA = aedat_31(
        [packet_31(ROWS[:2]), packet_31(ROWS, source=2), packet_31(ROWS[2:])],
        TWO_CAMERAS,
    )
    NAMES = ("1 DAVIS240C", "2 DVS128")

    def open(self, path: Path, camera: str | None = None) -> Recording:
        path.write_bytes(self.DATA)
        return open_recording(path, options=ReadOptions(camera=camera))

    def test_the_first_is_read_and_the_others_are_named(self, path):
        recording = self.open(path)
        assert (recording.sensor, recording.cameras) == (Sensor(240, 180), self.NAMES)
        assert recording.findings.warnings == [
            "camera 1 DAVIS240C is read; the file also holds 2 DVS128"
        ]
        assert np.concatenate(list(recording.events)).tolist() == REBASED

    @pytest.mark.parametrize("name", ["2 DVS128", "2", "dvs"])
    def test_another_is_chosen_by_its_name_a_part_of_it_or_its_place(self, path, name):
        recording = self.open(path, name)
        assert (recording.sensor, recording.cameras) == (
            Sensor(128, 128),
            self.NAMES[::-1],
        )
        assert not recording.findings.warnings
        assert sum(events.size for events in recording.events) == len(ROWS)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("left", "no camera is named left"), (" d", "several cameras are named  d")],
    )
    def test_a_name_of_no_one_camera_is_refused_with_those_that_are(
        self, path, name, reason
    ):
        with pytest.raises(UnsupportedRecording, match=f"{reason}; it holds 1 DAVIS"):
            self.open(path, name)


def test_time_goes_on_where_the_clock_of_31_is_reset(path):
    again = [(t - 990, x, y, p) for t, x, y, p in ROWS]
    reset = special_31([(1, 2**31 - 1)])
    packets = [reset, packet_31(ROWS), reset, packet_31(again), reset, packet_31(again)]
    times = [row[0] for row in read(path, aedat_31(packets))[1]]
    assert times == [0, 0, 250, 260, 260, 510, 520, 520, 770]


def test_triggers_of_31_are_kept_in_the_events_time(path):
    path.write_bytes(aedat_31([packet_31(ROWS), special_31([(2, 1_100), (3, 1_200)])]))
    recording = open_recording(path)
    assert len([*recording.events]) == 1
    assert recording.findings.triggers == [(100, 0, True), (200, 0, False)]


@pytest.mark.parametrize(
    "data",
    [aedat_31([packet_31(ROWS)])[:-3], aedat_31([packet_31(ROWS)[:-8]])],
)
def test_a_cut_file_of_31_is_read_up_to_the_cut_where_that_is_chosen(path, data):
    path.write_bytes(data)
    recording = open_recording(path, options=ReadOptions(truncated="read"))
    assert np.concatenate(list(recording.events)).tolist() == REBASED[:2]
    assert recording.findings.warnings == [
        "truncated: it ends inside a packet; read up to there"
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (aedat_31([packet_31(ROWS)[:-1]]), "inside a packet"),
        (aedat_31([packet_31(ROWS)[:20]]), "inside a packet"),
        (aedat_31([head_31(1, 8, 2**31 - 1, 0)]), "inside a packet"),
        (aedat_31([head_31(1, 8, -1, 0)]), "number -1"),
        (aedat_31([head_31(1, 12, 1, 1) + bytes(12)]), "size 12"),
        (aedat_31([]), "no events"),
        (b"#!AER-DAT3.1\r\n" + packet_31(ROWS), "END-HEADER"),
        (dvs128_2(ROWS)[:-1], "inside an event"),
    ],
)
def test_a_file_that_contradicts_itself_is_malformed(path, data, reason):
    with pytest.raises(MalformedRecording, match=reason):
        read(path, data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (HEADER_31.replace(b"RAW", b"PNGFrames"), "format PNGFrames"),
        (b"#!AER-DAT3.0\r\n", r"AEDAT 3\.0; 2\.0, 3\.1, 4\.0 are read"),
        (b"noise", "#!AER-DAT"),
        (dvs128_2(ROWS, "a.b.DVS320"), "chip DVS320; DVS128, DAVIS240"),
    ],
)
def test_a_file_without_a_reader_is_unsupported(path, data, reason):
    with pytest.raises(UnsupportedRecording, match=reason):
        read(path, data)

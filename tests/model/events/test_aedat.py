"""Recordings in AEDAT 2 and 3.1, the formats of jAER and cAER."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.formats import aedat3
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor
from tests.model.events.aedat_files import (
    HEADER_31,
    aedat_31,
    davis240_2,
    dvs128_2,
    head_31,
    packet_31,
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


def test_version_2_is_read_without_a_chip_as_a_dvs128(path):
    assert read(path, dvs128_2(ROWS)) == (Sensor(128, 128), REBASED)


def test_version_2_of_a_davis_skips_frames_and_triggers(path):
    rows = [(5, 239, 179, 1), (9, 0, 0, 0)]
    data = davis240_2(rows, others=[1 << 31 | 7, 1 << 10])
    assert read(path, data) == (Sensor(240, 180), [(0, 239, 179, 1), (4, 0, 0, 0)])


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
        (dvs128_2(ROWS).replace(b"# This", b"# AEChip: a.b.DVS320\r\n#"), "DVS320"),
    ],
)
def test_a_file_without_a_reader_is_unsupported(path, data, reason):
    with pytest.raises(UnsupportedRecording, match=reason):
        read(path, data)


def test_an_address_outside_the_chip_is_kept_for_the_check(path):
    data = davis240_2([(0, 3, -20, 1)])
    assert read(path, data)[1][0][2] > 180

"""Files of every format open as one stream of events, or are refused with a reason."""

from __future__ import annotations

from contextlib import suppress

import faery
import numpy as np
import pytest

from saccade.model.events.errors import (
    MalformedRecording,
    RecordingError,
    UnsupportedRecording,
)
from saccade.model.events.formats import csv, dat, npy
from saccade.model.events.reading import ReadOptions
from saccade.model.events.recordings import OPENERS, open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, check

ROWS = [(1_000, 3, 2, 1), (1_000, 0, 0, 0), (1_250, 9, 6, 1)]
REBASED = [(0, 3, 2, 1), (0, 0, 0, 0), (250, 9, 6, 1)]
BOUNDS = Sensor(10, 7)


def read_all(recording):
    return np.concatenate(list(recording.events))


def nmnist_bytes(rows):
    return b"".join(
        bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for t, x, y, p in rows
    )


def dat_bytes(rows, header=b"% Version 2\n", kind=b"\x0c\x08"):
    words = [(t, p << 28 | y << 14 | x) for t, x, y, p in rows]
    return header + kind + np.array(words, "<u4").tobytes()


def evt2_bytes(rows, header=b"% evt 2.0\n"):
    words = []
    for t, x, y, p in rows:
        words += [0x8 << 28 | t >> 6, p << 28 | (t & 63) << 22 | x << 11 | y]
    return header + np.array(words, "<u4").tobytes()


def evt3_bytes(rows, header=b"% evt 3.0\n"):
    words = []
    for t, x, y, p in rows:
        words += [0x8 << 12 | t >> 12, 0x6 << 12 | t & 0xFFF, y]
        words += [0x2 << 12 | p << 11 | x]
    return header + np.array(words, "<u2").tobytes()


def csv_bytes(rows, header="t,x,y,p"):
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def file(tmp_path):
    """Return a function that writes a file and returns its path."""

    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


WRITTEN = {
    "a.bin": nmnist_bytes(ROWS),
    "a.dat": dat_bytes(ROWS),
    "2d.dat": dat_bytes(ROWS, kind=b"\x00\x08"),
    "evt2.raw": evt2_bytes(ROWS),
    "evt3.raw": evt3_bytes(ROWS),
    "a.csv": csv_bytes(ROWS),
    "UPPER.CSV": csv_bytes(ROWS),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_written_file_is_read_with_the_first_event_at_zero(file, name):
    assert read_all(open_recording(file(name, WRITTEN[name]))).tolist() == REBASED


@pytest.mark.parametrize("name", ["scene.csv", "scene.npy"])
def test_clock_bits_undo_the_wraps_of_a_files_clock(tmp_path, name):
    times = [2**31 - 20, 2**31 - 1, 4, 5]
    rows = [(t, 1, 2, 1) for t in times]
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_bytes(csv_bytes(rows))
    else:
        np.save(path, np.array(rows, EVENT_DTYPE))
    events = read_all(open_recording(path, Sensor(4, 4), clock_bits=31))
    assert events["t"].tolist() == [0, 19, 24, 25]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_given_sensor_wins(file, name):
    sensor = Sensor(99, 98)
    assert open_recording(file(name, WRITTEN[name]), sensor).sensor == sensor


@pytest.mark.parametrize("name", WRITTEN)
def test_a_camera_is_not_ignored_where_a_file_names_none(file, name):
    path = file(name, WRITTEN[name])
    with pytest.raises(UnsupportedRecording, match="no camera is named left"):
        open_recording(path, options=ReadOptions(camera="left"))
    assert open_recording(path, options=ReadOptions(camera="1")).sensor


def test_an_event_stream_file_is_read(tmp_path):
    events = np.array(ROWS, faery.EVENTS_DTYPE)
    path = tmp_path / "a.es"
    faery.events_stream_from_array(events, (20, 10)).to_file(path)
    recording = open_recording(path)
    assert recording.sensor == Sensor(20, 10)
    assert read_all(recording).tolist() == REBASED


class TestGeometry:
    @pytest.mark.parametrize(
        "line", ["% geometry 346x260", "% format EVT3;height=260;width=346"]
    )
    def test_a_raw_header_gives_the_geometry_in_either_line(self, file, line):
        header = b"% evt 3.0\n" + line.encode() + b"\n% end\n"
        recording = open_recording(file("a.raw", evt3_bytes(ROWS, header)))
        assert recording.sensor == Sensor(346, 260)
        assert read_all(recording).tolist() == REBASED

    @pytest.mark.parametrize(
        ("place", "sensor"),
        [
            ((639, 479), Sensor(640, 480)),
            ((640, 0), Sensor(1280, 720)),
            ((0, 720), Sensor(1, 721)),
        ],
    )
    @pytest.mark.parametrize("encode", [evt2_bytes, evt3_bytes])
    def test_a_raw_file_without_a_geometry_has_the_smallest_common_sensor(
        self, file, encode, place, sensor
    ):
        path = file("a.raw", encode([(0, *place, 1)]))
        assert open_recording(path).sensor == sensor

    @pytest.mark.parametrize("on", [0, 1])
    def test_a_dat_header_may_leave_the_version_out(self, file, on):
        rows = [(t, x, y, p & on) for t, x, y, p in ROWS]
        words = [(t, p << 17 | y << 9 | x) for t, x, y, p in rows]
        data = b"% Data\n\x00\x08" + np.array(words, "<u4").tobytes()
        rebased = [(t - 1_000, *rest) for t, *rest in rows]
        assert read_all(open_recording(file("a.dat", data))).tolist() == rebased

    def test_a_dat_header_may_give_the_geometry(self, file):
        header = b"% Version 2\n% Height 240\n% Width 304\n"
        path = file("a.dat", dat_bytes(ROWS, header))
        assert open_recording(path).sensor == Sensor(304, 240)

    @pytest.mark.parametrize("name", ["a.dat", "a.csv"])
    def test_other_files_have_their_events_bounds(self, file, name):
        assert open_recording(file(name, WRITTEN[name])).sensor == BOUNDS

    @pytest.mark.parametrize(
        ("place", "sensor", "origin"),
        [((33, 33), Sensor(34, 34), "header"), ((100, 9), Sensor(240, 180), "guess")],
    )
    def test_a_bin_file_is_of_n_mnist_where_its_pixels_hold_all_events(
        self, file, place, sensor, origin
    ):
        path = file("a.bin", nmnist_bytes([(0, 1, 1, 1), (9, *place, 0)]))
        recording = open_recording(path)
        assert (recording.sensor, recording.origin) == (sensor, origin)

    @pytest.mark.parametrize("geometry", ["640", "0x480", "axb"])
    def test_a_malformed_geometry_is_refused(self, file, geometry):
        header = f"% evt 3.0\n% geometry {geometry}\n".encode()
        with pytest.raises(MalformedRecording, match="geometry"):
            open_recording(file("a.raw", evt3_bytes(ROWS, header)))


class TestChunks:
    ROWS = [(t, t % 10, t % 7, t % 2) for t in range(100)]  # noqa: RUF012

    @pytest.mark.parametrize("name", ["a.dat", "a.csv", "a.npy"])
    def test_are_bounded_and_lose_nothing(self, tmp_path, monkeypatch, name):
        monkeypatch.setattr(dat, "CHUNK_EVENTS", 16)
        monkeypatch.setattr(csv, "CHUNK_LINES", 16)
        monkeypatch.setattr(npy, "CHUNK_EVENTS", 16)
        path = tmp_path / name
        if name == "a.npy":
            np.save(path, np.array(self.ROWS, EVENT_DTYPE))
        else:
            encode = dat_bytes if name == "a.dat" else csv_bytes
            path.write_bytes(encode(self.ROWS))
        chunks = list(open_recording(path).events)
        assert [chunk.size for chunk in chunks] == [16, 16, 16, 16, 16, 16, 4]
        assert np.concatenate(chunks).tolist() == self.ROWS

    def test_the_wraps_of_a_dat_clock_are_undone(self, file):
        path = file("a.dat", dat_bytes([(2**32 - 1, 0, 0, 0), (1, 0, 0, 0)]))
        assert read_all(open_recording(path))["t"].tolist() == [0, 2]

    def test_marks_of_an_overflow_in_a_bin_file_are_time_and_no_events(self, file):
        rows = [(8_190, 1, 2, 1), (0, 0, 240, 0), (5, 3, 4, 0), (0, 0, 240, 0)]
        path = file("a.bin", nmnist_bytes([*rows, (7, 5, 6, 1)]))
        assert read_all(open_recording(path)).tolist() == [
            (0, 1, 2, 1), (7, 3, 4, 0), (8_201, 5, 6, 1),
        ]  # fmt: skip

    def test_columns_of_a_csv_may_come_in_any_order(self, file):
        data = b"y,on,extra,timestamp,x\n2,1,7,50,3\n"
        assert read_all(open_recording(file("a.csv", data))).tolist() == [(0, 3, 2, 1)]

    def test_time_that_runs_backwards_is_kept_for_the_check(self, file):
        path = file("a.csv", csv_bytes([(5, 0, 0, 0), (3, 0, 0, 0)]))
        assert read_all(open_recording(path))["t"].tolist() == [0, -2]


MALFORMED = {
    "a.bin": (nmnist_bytes(ROWS)[:-1], "inside an event"),
    "a.dat": (dat_bytes(ROWS)[:-1], "inside an event"),
    "b.dat": (b"% Version 2\n\x0c", "in its header"),
    "c.dat": (dat_bytes([]), "no events"),
    "a.raw": (evt3_bytes(ROWS)[:-1], "inside a word"),
    "b.raw": (evt2_bytes(ROWS)[:-2], "inside a word"),
    "c.raw": (b"\x00" * 16, "names no encoding"),
    "d.raw": (evt3_bytes([]), "no events"),
    "a.csv": (csv_bytes(ROWS) + b"7,8", "in the lines from 2 on"),
    "b.csv": (csv_bytes(ROWS, "t,x,y"), "no column p"),
    "c.csv": (csv_bytes([(0, -1, 0, 0)]), "x = -1"),
    "d.csv": (csv_bytes([("soon", 1, 0, 0)]), "soon"),
    "e.csv": (csv_bytes([]), "no events"),
    "a.npy": (b"not numpy's", "not a .npy array"),
    "a.npz": (b"not a zip", "not a readable .npz"),
    "a.es": (b"not an event stream", "bad magic number"),
    "a.aedat4": (b"#!AER-DAT4.0\r\n", "header is cut or damaged"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_named_with_the_reason(file, name):
    data, reason = MALFORMED[name]
    path = file(name, data)
    with pytest.raises(MalformedRecording, match=reason) as caught:
        read_all(open_recording(path))
    assert str(caught.value).startswith(f"{path}: ")


UNSUPPORTED = {
    "a.mp4": (b"film", "no reader for .mp4"),
    "noname": (b"?", "no reader"),
    "a.raw": (evt2_bytes(ROWS, b"% evt 4.0\n"), "encoding 4.0"),
    "a.dat": (dat_bytes(ROWS, b"% Version 3\n"), "DAT version 3"),
    "b.dat": (dat_bytes(ROWS, kind=b"\x0e\x08"), "type 14"),
    "a.aedat": (b"#!AER-DAT1.0\r\n# old", "AEDAT 1"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_file_is_named_with_the_reason(file, name):
    data, reason = UNSUPPORTED[name]
    path = file(name, data)
    with pytest.raises(UnsupportedRecording, match=reason) as caught:
        open_recording(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("suffix", sorted(OPENERS))
class TestEveryFormat:
    def test_a_missing_file_is_named(self, tmp_path, suffix):
        path = tmp_path / f"gone{suffix}"
        with pytest.raises(MalformedRecording, match=f"gone{suffix}: no such file"):
            open_recording(path)

    def test_an_empty_file_is_named(self, file, suffix):
        path = file(f"empty{suffix}", b"")
        with pytest.raises(MalformedRecording, match=f"empty{suffix}: .* empty"):
            open_recording(str(path))

    def test_a_folder_is_no_recording(self, tmp_path, suffix):
        path = tmp_path / f"folder{suffix}"
        path.mkdir()
        with pytest.raises(MalformedRecording, match="no such file"):
            open_recording(path)

    def test_random_bytes_give_events_or_a_typed_error(self, file, suffix):
        rng = np.random.default_rng(0)
        for size in (1, 2, 7, 40, 1000):
            path = file(f"noise{size}{suffix}", rng.bytes(size))
            with suppress(RecordingError):
                read_all(open_recording(path))


REAL = {
    "evt3_640x480.raw": (Sensor(640, 480), 343_474, 2.078),
    "evt2_640x480.raw": (Sensor(640, 480), 521_252, 0.096),
    "evt2_sample.raw": (Sensor(640, 480), 539_481, 0.050),
    "dvs_320x240.es": (Sensor(320, 240), 473_225, 0.999),
    "dvxplorer_320x240.aedat4": (Sensor(320, 240), 111_954, 0.590),
    "ncars_sample_td.dat": (Sensor(78, 42), 2_009, 0.100),
    "nmnist_sample.bin": (Sensor(34, 34), 4_325, 0.311),
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_recording_has_its_known_events(recordings, name):
    sensor, count, duration_s = REAL[name]
    recording = open_recording(recordings / name)
    assert recording.sensor == sensor
    seen, last_us = 0, None
    for events in recording.events:
        check(events, sensor, last_us)
        assert seen or events["t"][0] == 0
        seen, last_us = seen + events.size, int(events["t"][-1])
    assert seen == count
    assert last_us == pytest.approx(duration_s * 1e6, abs=1_000)

"""Recordings in HDF5, in the layouts of the data sets and tools that use it."""

from __future__ import annotations

from contextlib import suppress

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.encodings import ecf
from saccade.model.events.errors import (
    MalformedPayload,
    MalformedRecording,
    UnsupportedRecording,
)
from saccade.model.events.reading import ReadOptions, Trigger
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE
from tests.model.events.hdf5_files import (
    METAVISION_DTYPE,
    encode_ecf,
    write_columns,
    write_metavision,
    write_table,
)


@pytest.fixture
def events():
    rng = np.random.default_rng(3)
    made = np.empty(1_000, EVENT_DTYPE)
    made["t"] = np.sort(rng.integers(0, 100_000, 1_000))
    made["t"][0] = 0
    made["x"], made["y"] = rng.integers(0, 128, (2, 1_000))
    made["p"] = rng.integers(0, 2, 1_000)
    return made


def read_all(recording):
    return np.concatenate(list(recording.events))


def seconds(events):
    changed = events.astype([("t", "f8"), ("x", "u2"), ("y", "u2"), ("p", "?")])
    changed["t"] /= 1e6
    return changed


LAYOUTS = {
    "DSEC": lambda p, e: write_columns(p, e, **hdf5plugin.Blosc(cname="zstd")),
    "M3ED": lambda p, e: write_columns(p, e, "prophesee/left", compression="lzf"),
    "ESIM": lambda p, e: write_columns(p, seconds(e), names=["ts", "xs", "ys", "ps"]),
    "at the root": lambda p, e: write_columns(p, e, "/", compression="gzip"),
    "v2e": lambda p, e: write_table(p, e, "txyp", "u4"),
    "MVSEC": lambda p, e: write_table(p, e, "xytp", "f8", "davis/left/events", 1e-6),
    "Metavision without ECF": lambda p, e: write_metavision(p, e, mode=None),
    "Metavision": write_metavision,
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_a_layout_is_read(tmp_path, monkeypatch, events, name, suffix):
    monkeypatch.setattr("saccade.model.events.formats.hdf5.CHUNK_EVENTS", 300)
    path = tmp_path / f"a{suffix}"
    LAYOUTS[name](path, events)
    chunks = list(open_recording(path).events)
    assert np.array_equal(np.concatenate(chunks), events)
    assert [chunk.size for chunk in chunks] == [300, 300, 300, 100]


def test_metavisions_geometry_and_triggers_are_read(tmp_path, events):
    path = tmp_path / "a.hdf5"
    events["t"] += 1_000
    write_metavision(path, events, geometry="1280x720")
    recording = open_recording(path)
    read_all(recording)
    assert (recording.sensor, recording.origin) == (Sensor(1280, 720), "header")
    assert recording.findings.triggers == [Trigger(5, 2, rising=True)]


@pytest.mark.parametrize("name", ["RVT", "ESIM", "M3ED", "attributes"])
def test_a_geometry_beside_the_events_is_the_files(tmp_path, events, name):
    path = tmp_path / "a.h5"
    write_columns(path, events)
    with h5py.File(path, "a") as file:
        if name == "RVT":
            file["events/height"], file["events/width"] = 480, 640
        elif name == "M3ED":
            file["events/calib/resolution"] = (640, 480)
        elif name == "ESIM":
            file.attrs["sensor_resolution"] = (480, 640)
        else:
            file["events"].attrs.update({"width": 640, "height": 480})
    recording = open_recording(path)
    assert (recording.sensor, recording.origin) == (Sensor(640, 480), "header")


def test_of_two_cameras_the_first_is_read_and_the_other_can_be(tmp_path, events):
    path = tmp_path / "a.h5"
    write_columns(path, events, "left")
    with h5py.File(path, "a") as file:
        for field in "txyp":
            file[f"right/{field}"] = events[field][:10]
    recording = open_recording(path)
    assert recording.cameras == ("left", "right")
    assert len(read_all(recording)) == 1_000
    assert "the file also holds right" in recording.findings.warnings[0]
    other = open_recording(path, options=ReadOptions(camera="right"))
    assert other.cameras == ("right", "left")
    assert len(read_all(other)) == 10


def test_a_file_without_events_is_unsupported_and_says_what_it_holds(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["spikes/units"] = np.zeros(3)
    with pytest.raises(UnsupportedRecording, match=r"no events.*spikes/units"):
        open_recording(path)


def test_a_compression_that_is_not_installed_is_named(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for field in "txyp":
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk((10,))
            plist.set_filter(499, h5py.h5z.FLAG_OPTIONAL)
            space = h5py.h5s.create_simple((10,))
            kind = h5py.h5t.NATIVE_INT64
            h5py.h5d.create(file.id, field.encode(), kind, space, plist)
    with pytest.raises(
        UnsupportedRecording, match=r"compressed with .*saccade\[hdf5\]"
    ):
        open_recording(path)


def test_values_of_another_file_are_not_read(tmp_path, events):
    write_columns(tmp_path / "other.h5", events)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["events"] = h5py.ExternalLink("other.h5", "/events")
    with pytest.raises(UnsupportedRecording, match="no events"):
        open_recording(path)


def test_a_number_of_events_that_the_file_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for field in "txyp":
            file.create_dataset(f"events/{field}", (1 << 50,), "i8", chunks=(1000,))
        for field in "txyp":
            file["events"][field][:1000] = 1
    with pytest.raises(MalformedRecording, match="announced, 1000 are there"):
        open_recording(path)
    recording = open_recording(path, options=ReadOptions(truncated="read"))
    assert len(read_all(recording)) == 1_000


def test_a_link_out_of_the_file_is_not_followed(tmp_path, events):
    write_columns(tmp_path / "secret.h5", events)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events"] = h5py.ExternalLink("secret.h5", "/events")
        file["EXT_TRIGGER"] = h5py.ExternalLink("/proc/self/mem", "/")
        home = file.create_group("home")
        for field in "txyp":
            home[field] = h5py.ExternalLink("secret.h5", f"/events/{field}")
            file[field] = h5py.SoftLink(f"/events/{field}")
    with pytest.raises(UnsupportedRecording, match="no events"):
        open_recording(tmp_path / "a.h5")


ROWS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 14, 15, 16, 300, 2**33]),
        st.integers(0, 2047),
        st.sampled_from([0, 1, 2047]),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=60,
)


@given(ROWS, st.sampled_from([0, 1, 2]), st.integers(1, 200))
def test_every_block_of_ecf_is_decoded(rows, mode, repeats):
    block = np.zeros(len(rows) * repeats, METAVISION_DTYPE)
    steps, x, y, p = (np.repeat(column, repeats) for column in np.array(rows).T)
    block["t"], block["x"], block["y"], block["p"] = np.cumsum(steps), x, y, p
    decoded = ecf.decode(encode_ecf(block, mode))
    for field in "txyp":
        assert np.array_equal(decoded[field], block[field])


@given(ROWS, st.sampled_from([0, 1, 2]), st.data())
def test_a_damaged_block_of_ecf_gives_events_or_an_error(rows, mode, data):
    block = np.zeros(len(rows), METAVISION_DTYPE)
    for field, column in zip("txyp", np.array(rows).T, strict=True):
        block[field] = column
    encoded = bytearray(encode_ecf(block, mode))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(
        st.integers(1, 255)
    )
    damaged = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    with suppress(MalformedPayload):
        assert ecf.decode(damaged).size <= ecf.MOST_EVENTS

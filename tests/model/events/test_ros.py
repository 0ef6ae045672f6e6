"""Bags of ROS 1 and ROS 2, with each message and each encoding of events."""

from __future__ import annotations

import numpy as np
import pytest
from mcap.writer import CompressionType
from rosbags.rosbag2 import StoragePlugin

from saccade.model.events.encodings.libcaer import decode_libcaer_cmp
from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.reading import ReadOptions
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE
from tests.model.events import ros_files as ros


@pytest.fixture
def events():
    rng = np.random.default_rng(3)
    made = np.empty(1_000, EVENT_DTYPE)
    made["t"] = np.sort(rng.integers(0, 3_000_000, 1_000))
    made["t"][0] = 0
    made["x"], made["y"] = rng.integers(0, 128, (2, 1_000))
    made["p"] = rng.integers(0, 2, 1_000)
    return made


def evt2(events):
    t = events["t"].astype(np.uint32)
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = 8 << 28 | t >> 6
    words[:, 1] = (t & 63) << 22 | events["x"].astype(np.uint32) << 11 | events["y"]
    words[:, 1] |= events["p"].astype(np.uint32) << 28
    return words.tobytes()


def evt3(events):
    t = events["t"]
    words = np.empty((len(events), 4), "<u2")
    words[:, 0], words[:, 1] = 0x8 << 12 | t >> 12, 0x6 << 12 | t & 0xFFF
    words[:, 2] = events["y"]
    words[:, 3] = 0x2 << 12 | events["p"].astype(np.uint16) << 11 | events["x"]
    return words.tobytes()


def evt21(events):
    t, x, y, p = (events[field].astype(np.uint64) for field in "txyp")
    words = np.empty((len(events), 2), "<u8")
    words[:, 0] = 8 << 60 | t >> 6 << 32
    words[:, 1] = p << 60 | (t & 63) << 54 | (x >> 5 << 5) << 43 | y << 32
    words[:, 1] |= np.uint64(1) << (x & 31)
    return words.tobytes()


def libcaer(events):
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = events["x"].astype(np.uint32) << 17 | events["p"] << 1 | 1
    words[:, 0] |= events["y"].astype(np.uint32) << 2
    words[:, 1] = events["t"]
    return words.tobytes()


def libcaer_cmp(events):
    t = events["t"]
    words = np.empty((len(events), 4), "<u2")
    words[:, 0], words[:, 1] = t >> 12 & 0xFFF, 1 << 12 | t & 0xFFF
    words[:, 2] = 2 << 12 | events["x"]
    words[:, 3] = 3 << 12 | events["p"].astype(np.uint16) << 11 | events["y"]
    return words.tobytes()


def mono(events):
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = events["t"] * 1000 % 2**32
    words[:, 1] = events["y"].astype(np.uint32) << 16 | events["x"]
    words[:, 1] |= events["p"].astype(np.uint32) << 31
    return words.tobytes()


ENCODINGS = {"evt2": evt2, "evt21": evt21, "evt3": evt3,
             "libcaer": libcaer, "libcaer_cmp": libcaer_cmp, "mono": mono}  # fmt: skip


def read_all(recording):
    return np.concatenate(list(recording.events))


def encoded(events, encoding, store, *, is_ros2, size=(128, 128)):
    parts = [events[begin : begin + 300] for begin in range(0, len(events), 300)]
    payloads = [ENCODINGS[encoding](part) for part in parts]
    return ros.packets(store, payloads, encoding, size, is_ros2=is_ros2)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["bag", "db3", "mcap"])
def test_packets_of_each_encoding_are_read(tmp_path, events, encoding, kind):
    is_ros2 = kind != "bag"
    store = ros.typestore(is_ros2=is_ros2)
    topics = {"/events": encoded(events, encoding, store, is_ros2=is_ros2)}
    path = tmp_path / ("a" if is_ros2 else "a.bag")
    if not is_ros2:
        ros.write_ros1(path, topics, store)
    else:
        plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
        ros.write_ros2(path, topics, store, plugin)
        path = path / f"a.{kind}"
    recording = open_recording(path)
    assert (recording.sensor, recording.origin) == (Sensor(128, 128), "header")
    assert recording.cameras == ("/events",)
    assert np.array_equal(read_all(recording), events)


@pytest.mark.parametrize("package", ["dvs_msgs", "prophesee_event_msgs"])
@pytest.mark.parametrize("is_ros2", [False, True])
@pytest.mark.parametrize("count", [1, 2, 300, 999])
def test_arrays_of_events_are_read(tmp_path, events, package, is_ros2, count):
    store = ros.typestore(is_ros2=is_ros2)
    events = events[:50] if count < 3 else events
    messages = ros.arrays(store, events, package, count=count, is_ros2=is_ros2)
    path = tmp_path / ("a" if is_ros2 else "a.bag")
    (ros.write_ros2 if is_ros2 else ros.write_ros1)(path, {"/dvs": messages}, store)
    assert np.array_equal(read_all(open_recording(path)), events)


@pytest.mark.parametrize(
    "compression", [CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD]
)
def test_a_file_of_the_package_mcap_is_read(tmp_path, events, compression):
    store = ros.typestore(is_ros2=True)
    messages = encoded(events, "evt3", store, is_ros2=True)
    path = tmp_path / "a.mcap"
    ros.write_mcap(path, "/events", messages, store, compression)
    assert np.array_equal(read_all(open_recording(path)), events)


def test_the_time_base_of_a_packet_counts(tmp_path):
    store = ros.typestore(is_ros2=True)
    rows = np.array([(2**31 - 1, 1, 2, 1), (5, 3, 4, 0)], EVENT_DTYPE)
    bases_ns = [10**18, 10**18 + 2**31 * 1000]
    messages = ros.packets(
        store, [libcaer(rows), libcaer(rows[1:])], "libcaer", (346, 260), bases_ns,
        is_ros2=True,
    )  # fmt: skip
    ros.write_ros2(tmp_path / "a", {"/events": messages}, store)
    read = read_all(open_recording(tmp_path / "a"))
    assert read["t"].tolist() == [0, 6, 6]


def test_a_vector_of_libcaer_goes_on_along_its_column():
    words = [0 << 12 | 1, 1 << 12 | 2, 2 << 12 | 7, 4 << 12 | 1 << 11 | 40,
             5 << 12 | 0b101, 5 << 12 | 1, 3 << 12 | 9]  # fmt: skip
    data = np.array(words, "<u2").tobytes()
    assert decode_libcaer_cmp(data, 1_000).tolist() == [
        (4099, 7, 40, 1),
        (4099, 7, 42, 1),
        (4099, 7, 48, 1),
        (4099, 7, 9, 0),
    ]


def test_of_two_cameras_the_first_is_read_and_the_other_can_be(tmp_path, events):
    store = ros.typestore(is_ros2=False)
    left = encoded(events, "evt3", store, is_ros2=False)
    right = encoded(events[:10], "evt3", store, is_ros2=False, size=(346, 260))
    path = tmp_path / "a.bag"
    ros.write_ros1(path, {"/left/events": left, "/right/events": right}, store)
    recording = open_recording(path)
    assert recording.cameras == ("/left/events", "/right/events")
    assert np.array_equal(read_all(recording), events)
    assert "the file also holds /right/events" in recording.findings.warnings[0]
    other = open_recording(path, options=ReadOptions(camera="right"))
    assert other.sensor == Sensor(346, 260)
    assert np.array_equal(read_all(other), events[:10])


def test_a_bag_without_events_is_unsupported_and_says_what_it_holds(tmp_path):
    store = ros.typestore(is_ros2=False)
    text = store.types["std_msgs/msg/String"]("hello")
    path = tmp_path / "a.bag"
    ros.write_ros1(path, {"/chatter": [text]}, store)
    with pytest.raises(UnsupportedRecording, match=r"/chatter \(std_msgs/String\)"):
        open_recording(path)


def test_an_encoding_that_is_not_known_is_named(tmp_path):
    store = ros.typestore(is_ros2=False)
    messages = ros.packets(store, [b""], "evt9", is_ros2=False)
    path = tmp_path / "a.bag"
    ros.write_ros1(path, {"/events": messages}, store)
    with pytest.raises(UnsupportedRecording, match="encoding evt9"):
        open_recording(path)


def test_a_truncated_bag_is_malformed(tmp_path, events):
    store = ros.typestore(is_ros2=False)
    path = tmp_path / "a.bag"
    topics = {"/events": encoded(events, "evt3", store, is_ros2=False)}
    ros.write_ros1(path, topics, store)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(MalformedRecording, match="not readable as a bag"):
        read_all(open_recording(path))


REAL = {
    "evt3_640x480.bag": (Sensor(640, 480), 343_474, {}, 4_157),
    "evt3_1280x720_trigger": (
        Sensor(1280, 720), 82_469, {"x": 42_078_718, "y": 31_656_267, "p": 41_439}, 2,
    ),
    "libcaer_rollover/libcaer_rollover_0.db3": (
        Sensor(640, 480), 334_331, {"x": 111_651_612, "y": 82_801_007, "p": 181_908}, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_a_real_bag_has_its_known_events(recordings, name):
    sensor, count, sums, triggers = REAL[name]
    recording = open_recording(recordings / name)
    events = read_all(recording)
    assert (recording.sensor, len(events)) == (sensor, count)
    assert {field: events[field].sum(dtype=int) for field in sums} == sums
    assert len(recording.findings.triggers) == triggers
    assert (np.diff(events["t"]) >= 0).all()


def test_a_bag_has_the_events_of_its_raw_file(recordings):
    bag = read_all(open_recording(recordings / "evt3_640x480.bag"))
    raw = read_all(open_recording(recordings / "evt3_640x480.raw"))
    assert np.array_equal(bag, raw)

"""What arrives live: real sockets and pipes, written by others where they can."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from saccade.clients.arrivals import Arrivals
from saccade.clients.errors import UnplayableSource
from saccade.clients.pacing import Batch, arriving
from saccade.clients.sources import is_live, open_live
from saccade.clients.sources.cameras import DRIVERS, open_inivation, open_neuromorphic
from saccade.clients.sources.ros2 import from_messages
from saccade.clients.sources.stdin import open_stdin
from saccade.clients.sources.udp import LAYOUTS, Datagrams, spif, t64_x16_y16_on8
from saccade.model.events.encodings.packed import pack
from saccade.model.events.formats import raw
from saccade.model.events.reading import Findings
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE
from tests.clients.scripted import moving

SENSOR = Sensor(640, 480)
FAERY_DTYPE = [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")]


def some_events(count, start_us=0, step_us=10):
    rng = np.random.default_rng(7)
    events = np.empty(count, EVENT_DTYPE)
    events["t"] = start_us + np.arange(count) * step_us
    events["x"] = rng.integers(0, SENSOR.width, count)
    events["y"] = rng.integers(0, SENSOR.height, count)
    events["p"] = rng.integers(0, 2, count)
    return events


def as_faery(events):
    theirs = np.empty(events.size, FAERY_DTYPE)
    for ours, name in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        theirs[name] = events[ours]
    return theirs


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def taken(source, count):
    """Read a live source until it has yielded `count` events."""
    chunks = []
    for chunk in source.chunks:
        chunks.append(chunk)
        if sum(map(len, chunks)) >= count:
            return np.concatenate(chunks)
    return np.concatenate([np.empty(0, EVENT_DTYPE), *chunks])


@pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning")  # faery's own socket
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("layout", ["t64_x16_y16_on8", "t32_x16_y15_on1"])
def test_the_datagrams_of_faery_are_received(layout):
    faery = pytest.importorskip("faery")
    port = free_port(socket.SOCK_DGRAM)
    source = open_live(f"udp://127.0.0.1:{port}?layout={layout}", SENSOR)
    events = some_events(2_000)
    stream = faery.events_stream_from_array(
        as_faery(events), (SENSOR.width, SENSOR.height)
    )
    stream.to_udp(("127.0.0.1", port), format=layout)
    assert np.array_equal(taken(source, 2_000), events)
    assert (source.sensor, source.when_full, source.live) == (
        SENSOR,
        "drop-oldest",
        True,
    )


def spif_words(events, *, timed):
    pixel = events["x"].astype("<u4") << 16 | events["y"]
    pixel |= events["p"].astype("<u4") << 15
    if not timed:
        return (pixel | np.uint32(1 << 31)).astype("<u4").tobytes()
    return np.stack([pixel, events["t"]], axis=1).astype("<u4").tobytes()


def test_the_words_of_spif_are_received():
    port = free_port(socket.SOCK_DGRAM)
    source = open_live(f"udp://127.0.0.1:{port}?layout=spif")
    events = some_events(300)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for piece in np.split(events, 3):
            sender.sendto(spif_words(piece, timed=True), ("127.0.0.1", port))
        sender.sendto(b"\x01\x02\x03", ("127.0.0.1", port))
    assert np.array_equal(taken(source, 300), events)
    assert next(source.chunks).size == 0
    assert source.findings.skipped == {"malformed datagrams": 1}


def test_words_without_a_time_get_that_of_their_arrival():
    events = some_events(5)
    found = spif(spif_words(events, timed=False), 1_234)
    assert found["t"].tolist() == [1_234] * 5
    assert np.array_equal(found[["x", "y", "p"]], events[["x", "y", "p"]])


def test_a_late_datagram_is_left_out_and_a_new_clock_followed():
    findings = Findings()
    datagrams = Datagrams(t64_x16_y16_on8, findings)
    starts_us = (5_000_000, 6_000_000, 5_999_000, 0, 1_000)
    sent = [as_faery(some_events(10, start)).tobytes() for start in starts_us]
    found = datagrams.decode(iter(sent), 0)
    assert found.size == 40
    assert np.all(np.diff(found["t"]) >= 0)
    assert found["t"][30] - found["t"][20] == 1_000
    assert findings.skipped == {
        "datagrams that came late": 1,
        "restarts of the sender's clock": 1,
    }


@pytest.mark.parametrize("name", ["t32_x16_y15_on1", "spif"])
def test_a_clock_of_32_bits_goes_on_after_its_wrap(name):
    events = some_events(4, start_us=(1 << 32) - 20)
    wrapped = events.copy()
    wrapped["t"] &= 0xFFFF_FFFF
    compact = np.empty(4, [("t", "<u4"), ("x", "<u2"), ("y_on", "<u2")])
    compact["t"], compact["x"] = wrapped["t"], wrapped["x"]
    compact["y_on"] = wrapped["y"] << 1 | wrapped["p"]
    whole = spif_words(wrapped, timed=True) if name == "spif" else compact.tobytes()
    sent = [whole[:16], whole[16:]]
    found = Datagrams(LAYOUTS[name], Findings()).decode(iter(sent), 0)
    assert np.array_equal(found, events)


@pytest.fixture
def pipe():
    """Return a function that opens what a writer puts into a pipe, piece by piece."""
    opened = []

    def open_written(text, pieces):
        reading, writing = os.pipe()
        opened.append(reading)

        def write():
            with os.fdopen(writing, "wb", buffering=0) as file:
                for piece in pieces:
                    file.write(piece)

        threading.Thread(target=write, daemon=True).start()
        return open_stdin(text, None, reading)

    yield open_written
    for descriptor in opened:
        os.close(descriptor)


def cut(data, size):
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize("version", ["evt2", "evt3"])
@pytest.mark.parametrize("size", [7, 1_000_000])
def test_a_raw_files_bytes_say_all_however_they_are_cut(tmp_path, pipe, version, size):
    faery = pytest.importorskip("faery")
    events = some_events(500)
    stream = faery.events_stream_from_array(
        as_faery(events), (SENSOR.width, SENSOR.height)
    )
    stream.to_file(tmp_path / "some.raw", version=version)
    data = (tmp_path / "some.raw").read_bytes()
    source = pipe("stdin", cut(data, size))
    assert source.sensor == SENSOR
    assert np.array_equal(taken(source, 500)[["x", "y", "p"]], events[["x", "y", "p"]])


@pytest.mark.parametrize(
    ("header", "order"),
    [("", "txyp"), ("t,x,y,p\n", "txyp"), ("x,y,polarity,timestamp\n", "xypt")],
)
def test_csv_is_read_with_and_without_a_header(pipe, header, order):
    events = some_events(100)
    rows = zip(*(events[name] for name in order), strict=True)
    text = header + "".join(",".join(map(str, row)) + "\n" for row in rows)
    source = pipe("stdin", cut(text.encode(), 13))
    assert np.array_equal(taken(source, 100), events)


def test_packed_records_are_read_beyond_their_32_bits(pipe):
    events = some_events(1_000, start_us=(1 << 32) - 5_000)
    halves = (pack(events[:500], 0), pack(events[500:], 1 << 32))
    source = pipe("stdin?format=packed", cut(b"".join(halves), 12))
    assert np.array_equal(taken(source, 1_000), events)


@pytest.mark.parametrize(
    ("text", "data", "reason"),
    [
        ("stdin", b"", "holds nothing"),
        ("stdin", b"\x01\xff\x00", "stdin.format= one of csv, packed, evt2"),
        ("stdin", b"% evt 4.0\n% end\n", "4.0"),
        ("stdin?format=jpeg", b"", "the formats are csv, packed"),
    ],
)
def test_input_that_is_not_understood_says_what_would_be(pipe, text, data, reason):
    with pytest.raises(UnplayableSource, match=reason):
        pipe(text, [data])


def test_input_that_ends_within_a_record_says_so(pipe):
    source = pipe("stdin?format=packed", [pack(some_events(2), 0)[:-3]])
    with pytest.raises(UnplayableSource, match="after 5 bytes"):
        list(source.chunks)


DV_SERVER = """
import os, sys, time
import dv_processing as dv

port, count = map(int, sys.argv[1:])
stream = dv.io.Stream.EventStream(0, "events", "camera", (640, 480))
writer = dv.io.NetworkWriter("127.0.0.1", port, stream)
print("ready", flush=True)
while not writer.getClientCount():
    time.sleep(0.01)
store = dv.EventStore()
for i in range(count):
    store.push_back(1_700_000_000_000_000 + 10 * i, i % 640, i % 480, i % 2 == 0)
writer.writeEvents(store)
sys.stdin.read()
os._exit(0)  # the writer waits for its client otherwise
"""


def test_a_dv_network_stream_is_read_to_its_end():
    pytest.importorskip("dv_processing")
    port = free_port(socket.SOCK_STREAM)
    server = subprocess.Popen(
        [sys.executable, "-c", DV_SERVER, str(port), "1000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with server:
        assert server.stdout.readline() == b"ready\n"
        source = open_live(f"tcp://127.0.0.1:{port}")
        found = taken(source, 1_000)
        server.stdin.close()
        assert sum(map(len, source.chunks)) == 0
    assert source.sensor == SENSOR
    assert found["t"].tolist() == [1_700_000_000_000_000 + 10 * i for i in range(1000)]
    assert found["x"].tolist() == [i % 640 for i in range(1_000)]
    assert found["p"].tolist() == [int(i % 2 == 0) for i in range(1_000)]


def test_no_dv_network_stream_says_so():
    pytest.importorskip("dv_processing")
    with pytest.raises(UnplayableSource, match="refused"):
        open_live(f"tcp://127.0.0.1:{free_port(socket.SOCK_STREAM)}")


@pytest.mark.parametrize(
    ("text", "module", "words"),
    [
        ("tcp://127.0.0.1:7777", "dv_processing", "saccade.dv"),
        ("camera:neuromorphic", "neuromorphic_drivers", "saccade.cameras"),
        ("camera:inivation", "event_camera_drivers", "pip install event-camera"),
        ("camera:metavision", "metavision_core", "OpenEB or Metavision SDK"),
        ("ros2:/events", "rclpy", "comes with ROS 2, not with pip"),
    ],
)
def test_a_missing_driver_is_explained_in_words(monkeypatch, text, module, words):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnplayableSource, match=words):
        open_live(text)


def test_without_any_driver_all_are_named(monkeypatch):
    for driver in DRIVERS.values():
        monkeypatch.setitem(sys.modules, driver.package.partition(".")[0], None)
    with pytest.raises(UnplayableSource, match=r"neuromorphic_drivers.*or metavision"):
        open_live("camera")


def test_a_driver_without_a_camera_says_what_to_look_at():
    pytest.importorskip("neuromorphic_drivers")
    with pytest.raises(UnplayableSource, match="is it plugged in"):
        open_live("camera:neuromorphic?serial=none")


Packet = namedtuple("Packet", "polarity_events")


class Device:
    """A camera as `neuromorphic_drivers` gives it: packets, or None in time."""

    def __enter__(self):
        return iter(self)

    def __exit__(self, *error):
        pass

    def __iter__(self):
        packets = (Packet(as_faery(some_events(10))), None, Packet(None))
        return iter([(None, packet) for packet in packets])

    def properties(self):
        return SimpleNamespace(width=1280, height=720)


def test_a_cameras_packets_become_events():
    package = SimpleNamespace(open=lambda **options: Device())
    opened = open_neuromorphic(package, "")
    assert opened.sensor == Sensor(1280, 720)
    chunks = list(opened.chunks)
    assert [chunk.size for chunk in chunks] == [10, 0, 0]
    assert np.array_equal(chunks[0], some_events(10))


def test_an_inivation_cameras_arrays_become_events():
    dtype = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")])

    class Camera:
        def resolution(self):
            return (346, 260)

        def __iter__(self):
            return iter([as_faery(some_events(10)).astype(dtype)])

    opened = open_inivation(SimpleNamespace(InivationCamera=Camera), "")
    assert opened.sensor == Sensor(346, 260)
    assert np.array_equal(next(opened.chunks), some_events(10))


def cdr(messages, store):
    return [bytes(store.serialize_cdr(m, m.__msgtype__)) for m in messages]


def test_a_topics_packets_are_decoded_and_say_their_sensor(tmp_path):
    faery = pytest.importorskip("faery")
    ros_files = pytest.importorskip("tests.model.events.ros_files")
    store = ros_files.typestore(is_ros2=True)
    events = some_events(500)
    size = (SENSOR.width, SENSOR.height)
    stream = faery.events_stream_from_array(as_faery(events), size)
    stream.to_file(tmp_path / "some.raw", version="evt3")
    with (tmp_path / "some.raw").open("rb") as file:
        raw.read_header(file)
        words = file.read()
    payloads = [words[:400], words[400:]]
    sent = cdr(ros_files.packets(store, payloads, "evt3", is_ros2=True), store)
    messages = iter([b"", sent[0], b"", sent[1]])
    source = from_messages(
        "ros2:/events", "event_camera_msgs/EventPacket", messages, None
    )
    assert (source.sensor, source.live) == (SENSOR, True)
    assert np.array_equal(taken(source, 500)[["x", "y", "p"]], events[["x", "y", "p"]])


def test_a_topics_arrays_become_events():
    ros_files = pytest.importorskip("tests.model.events.ros_files")
    store = ros_files.typestore(is_ros2=True)
    events = some_events(500)
    made = ros_files.arrays(store, events, "dvs_msgs", (640, 480), is_ros2=True)
    messages = iter(cdr(made, store))
    source = from_messages("ros2:/events", "dvs_msgs/EventArray", messages, None)
    assert source.sensor == SENSOR
    assert np.array_equal(taken(source, 500), events)


def test_a_broken_message_says_so():
    with pytest.raises(UnplayableSource, match="a message is broken"):
        from_messages("ros2:/e", "dvs_msgs/EventArray", iter([b"\0\1"]), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("udp://127.0.0.1", "no host and port"),
        ("udp://127.0.0.1:99999", "[Pp]ort"),
        ("udp://127.0.0.1:3333?layout=jpeg", "t64_x16_y16_on8, t32_x16_y15_on1, spif"),
        ("udp://192.0.2.1:3333", "address"),
        ("camera:webcam", "the drivers are neuromorphic, inivation, metavision"),
        ("ros2:events", "ros2:/event_camera/events"),
    ],
)
def test_what_cannot_be_opened_says_why(text, reason):
    assert is_live(text)
    with pytest.raises(UnplayableSource, match=reason):
        open_live(text)


def test_a_file_is_not_live():
    assert not is_live("stdin.csv")
    assert not is_live("sim:motions")


async def frames_of(arrivals, batch):
    return [frame async for frame in arriving(arrivals, batch)]


async def test_arriving_events_are_sent_when_a_frame_is_full():
    events = moving(100)
    arrivals = Arrivals(iter(np.split(events, 10)))
    frames = await frames_of(arrivals, Batch(latency_s=3_600, events=30))
    assert np.array_equal(np.concatenate(frames), events)
    assert max(map(len, frames)) == 30


async def test_arriving_events_do_not_wait_longer_than_the_latency():
    ended = threading.Event()

    def silent():
        yield moving(10)
        while not ended.is_set():
            time.sleep(0.005)
            yield moving(0)

    frames = arriving(Arrivals(silent()), Batch(latency_s=0.02, events=10**6))
    async with asyncio.timeout(60):
        assert (await anext(frames)).size == 10
    ended.set()
    assert await anext(frames, None) is None


async def test_a_source_that_breaks_is_heard_after_its_last_events():
    def broken():
        yield moving(10)
        raise OSError("unplugged")

    frames = arriving(Arrivals(broken()), Batch(latency_s=3_600, events=10**6))
    assert (await anext(frames)).size == 10
    with pytest.raises(OSError, match="unplugged"):
        await anext(frames)


def test_stopping_ends_an_endless_source():
    closed = threading.Event()

    def endless():
        try:
            for count in itertools.count():
                yield moving(1, start_us=count)
        finally:
            closed.set()

    arrivals = Arrivals(endless())
    assert arrivals.take(60)
    arrivals.stop()
    assert closed.wait(60)

"""Reader of ROS 1 bags, and of ROS 2 bags in db3 and mcap files and their folders.

The package `rosbags` reads the containers. A topic of `event_camera_msgs`, `dvs_msgs`
or `prophesee_event_msgs` is a camera; its messages say the geometry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from saccade.model.events.encodings.evt import Evt2Decoder, Evt3Decoder, EvtDecoder
from saccade.model.events.encodings.evt21 import Evt21Decoder
from saccade.model.events.encodings.libcaer import (
    decode_libcaer,
    decode_libcaer_cmp,
    decode_mono,
)
from saccade.model.events.errors import (
    MalformedRecording,
    ReaderMissing,
    RecordingError,
    UnsupportedRecording,
)
from saccade.model.events.formats.ros_messages import (
    ARRAYS,
    PACKETS,
    EventMessage,
    plain_type,
    read_array,
    read_message,
)
from saccade.model.events.geometry import Known, choose_sensor
from saccade.model.events.reading import (
    Findings,
    Opened,
    ReadOptions,
    Trigger,
    choose_camera,
)
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

SLICE_BYTES: Final = 1 << 17
"""How much of a packet is decoded at once; whole words of every encoding."""

Decode: TypeAlias = Callable[[bytes, int], Events]

STREAMED: Final[dict[str, Callable[[], EvtDecoder]]] = {
    "evt2": Evt2Decoder,
    "evt21": Evt21Decoder,
    "evt3": Evt3Decoder,
}
"""Encodings whose decoder goes on from packet to packet."""
PACKED: Final[dict[str, Decode]] = {
    "libcaer": decode_libcaer,
    "libcaer_cmp": decode_libcaer_cmp,
    "mono": decode_mono,
}
"""Encodings of which each packet decodes by itself."""


@dataclass(frozen=True)
class _Topic:
    """A camera in a bag."""

    name: str
    kind: str
    is_ros2: bool


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open a .bag, .db3 or .mcap file, or a ROS 2 bag's folder.

    Raises:
        MalformedRecording: The bag is broken, truncated or has no index.
        ReaderMissing: `rosbags` is not installed.
        UnsupportedRecording: No topic has events, or their encoding is another.
    """
    findings = Findings()
    with _reader(path) as reader:
        topics = _topics(path, reader)
        names = [topic.name for topic in topics]
        topic = topics[choose_camera(path, names, options, findings)]
        first = next(_messages(reader, topic), None)
    if first is None:
        raise MalformedRecording(path, "the file holds no events")
    encodings = ("", *STREAMED, *PACKED)
    if first.encoding not in encodings:
        reason = f"encoding {first.encoding}; {', '.join(encodings[1:])} are read"
        raise UnsupportedRecording(path, reason)
    known: Known = None
    if first.width and first.height:
        known = Sensor(first.width, first.height), "header"
    scan = partial(_events, path, topic, first.encoding)
    sensor, origin = choose_sensor(options, findings, lambda: scan(None), known)
    others = (name for name in names if name != topic.name)
    cameras = (topic.name, *others)
    name = f"{topic.kind} {first.encoding}".strip()
    return Opened(sensor, origin, scan(findings.triggers), cameras, findings, name)


@contextmanager
def _reader(path: Path) -> Iterator[Any]:
    """Open a bag, and turn what `rosbags` raises into MalformedRecording.

    Of a broken bag it raises whatever comes of reading it: its own errors, those of
    struct, SQLite and the compressions, and failed assertions.
    """
    try:
        from rosbags.rosbag1 import Reader as Reader1
        from rosbags.rosbag2 import Reader as Reader2
    except ImportError as error:
        raise ReaderMissing("rosbags", "ros") from error
    try:
        with (Reader1 if _is_ros1(path) else Reader2)(path) as reader:
            yield reader
    except RecordingError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise MalformedRecording(path, f"not readable as a bag: {reason}") from error


def _is_ros1(path: Path) -> bool:
    return path.suffix.lower() == ".bag" and path.is_file()


def _topics(path: Path, reader: Any) -> list[_Topic]:
    kinds = {c.topic: plain_type(c.msgtype) for c in reader.connections}
    topics = [
        _Topic(name, kind, not _is_ros1(path))
        for name, kind in kinds.items()
        if kind in PACKETS or kind in ARRAYS
    ]
    if not topics:
        present = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        reason = f"no topic has events; it holds {present[:300] or 'no topics'}"
        raise UnsupportedRecording(path, reason)
    return topics


def _messages(reader: Any, topic: _Topic) -> Iterator[EventMessage]:
    connections = [c for c in reader.connections if c.topic == topic.name]
    for _, _, message in reader.messages(connections=connections):
        yield read_message(bytes(message), topic.kind, is_ros2=topic.is_ros2)


def _events(
    path: Path, topic: _Topic, encoding: str, triggers: list[Trigger] | None
) -> Iterator[Events]:
    decoder = STREAMED[encoding]() if encoding in STREAMED else None
    if decoder:
        decoder.triggers = triggers
    with _reader(path) as reader:
        for message in _messages(reader, topic):
            if message.encoding != encoding:
                reason = f"the encoding changes from {encoding} to {message.encoding}"
                raise MalformedRecording(path, reason)
            if not encoding:
                yield read_array(message.data, is_ros2=topic.is_ros2)
                continue
            if not decoder:
                yield PACKED[encoding](message.data, message.time_base_ns)
                continue
            for begin in range(0, len(message.data), SLICE_BYTES):
                yield decoder.decode(message.data[begin : begin + SLICE_BYTES])

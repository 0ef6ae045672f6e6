"""Events from a ROS 2 topic, where rclpy is installed.

The messages are those that `model.events.formats.ros` reads from bags; a subscription
passes them on as they came, undecoded.
"""

from __future__ import annotations

import itertools
import queue
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from saccade.clients.errors import UnplayableSource
from saccade.clients.sources.source import NOTHING, Source
from saccade.model.events.encodings.evt import EvtDecoder
from saccade.model.events.formats.ros import PACKED, STREAMED
from saccade.model.events.formats.ros_messages import (
    ARRAYS,
    PACKETS,
    EventMessage,
    plain_type,
    read_array,
    read_message,
)
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

FIND_TOPIC_S: Final = 10.0
FIRST_MESSAGE_S: Final = 10.0
POLL_S: Final = 0.1
MOST_MESSAGES: Final = 64
"""Messages that wait: ROS itself drops beyond, as a subscriber of sensor data does."""


def open_topic(text: str, sensor: Sensor | None) -> Source:
    """Subscribe to `ros2:/topic`.

    Raises:
        UnplayableSource: rclpy is missing, or no such topic has events.
    """
    topic = text.partition(":")[2]
    if not topic.startswith("/"):
        raise UnplayableSource(text, "it names no topic, as ros2:/event_camera/events")
    try:
        import rclpy
        from rclpy.qos import qos_profile_sensor_data
        from rosidl_runtime_py.utilities import get_message
    except ImportError as error:
        reason = (
            f"topics need rclpy ({error}); it comes with ROS 2, not with pip: source "
            "its setup file first, and use its Python"
        )
        raise UnplayableSource(text, reason) from error
    rclpy.init()
    node = rclpy.create_node("saccade_stream")
    kind = _find_kind(text, topic, node, rclpy.spin_once)
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    node.create_subscription(
        get_message(kind), topic, messages.put, qos_profile_sensor_data, raw=True
    )
    spun = _spun(messages, lambda: rclpy.spin_once(node, timeout_sec=POLL_S))
    return from_messages(text, plain_type(kind), spun, sensor)


def _find_kind(text: str, topic: str, node: Any, spin_once: Any) -> str:
    """Wait for a topic to be published, and return the type of its messages."""
    until_s = time.monotonic() + FIND_TOPIC_S
    while time.monotonic() < until_s:
        kinds: list[str] = dict(node.get_topic_names_and_types()).get(topic, [])
        for kind in kinds:
            if plain_type(kind) in PACKETS + ARRAYS:
                return kind
        if kinds:
            raise UnplayableSource(text, f"its messages are {kinds[0]}, not events")
        spin_once(node, timeout_sec=POLL_S)
    raise UnplayableSource(text, f"nothing publishes {topic}")


def _spun(messages: queue.SimpleQueue[bytes], spin: Any) -> Iterator[bytes]:
    """Yield messages as they come; b"" where none came."""
    while True:
        spin()
        yielded = False
        with suppress(queue.Empty):
            while True:
                yield messages.get_nowait()
                yielded = True
        if not yielded:
            yield b""


def from_messages(
    text: str, kind: str, messages: Iterator[bytes], sensor: Sensor | None
) -> Source:
    """Return the source of a topic's messages, whose first tells the geometry.

    Args:
        text: The source.
        kind: The messages' type, as `event_camera_msgs/EventPacket`.
        messages: Messages as ROS 2 sends them; b"" where none came for a while.
        sensor: The geometry that the user says.

    Raises:
        UnplayableSource: No message comes, or its events cannot be decoded.
    """
    until_s = time.monotonic() + FIRST_MESSAGE_S
    first = b""
    while not first:
        first = next(messages, b"")
        if not first and time.monotonic() >= until_s:
            raise UnplayableSource(text, "no message comes")
    begin = _message(text, first, kind)
    if begin.encoding not in ("", *STREAMED, *PACKED):
        raise UnplayableSource(text, f"its encoding {begin.encoding} has no decoder")
    known = Sensor(begin.width, begin.height) if begin.width and begin.height else None
    return Source(
        name=text,
        sensor=sensor or known,
        chunks=_events(text, kind, begin.encoding, itertools.chain([first], messages)),
        changes=True,
        live=True,
        when_full="drop-oldest",
    )


def _events(
    text: str, kind: str, encoding: str, messages: Iterator[bytes]
) -> Iterator[Events]:
    decoder = STREAMED[encoding]() if encoding in STREAMED else None
    for data in messages:
        if not data:
            yield NOTHING
            continue
        message = _message(text, data, kind)
        if message.encoding != encoding:
            reason = f"its encoding changes from {encoding} to {message.encoding}"
            raise UnplayableSource(text, reason)
        yield _decoded(message, decoder)


def _decoded(message: EventMessage, decoder: EvtDecoder | None) -> Events:
    if decoder is not None:
        return decoder.decode(message.data)
    if message.encoding:
        return PACKED[message.encoding](message.data, message.time_base_ns)
    return read_array(message.data, is_ros2=True)


def _message(text: str, data: bytes, kind: str) -> EventMessage:
    try:
        return read_message(data, kind, is_ros2=True)
    except (ValueError, struct.error) as error:
        raise UnplayableSource(text, f"a message is broken: {error}") from error

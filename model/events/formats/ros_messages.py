"""The fields of ROS messages that hold events, read from their bytes.

ROS 1 puts fields side by side. ROS 2 writes CDR: four bytes say the byte order, and
each number begins at a multiple of its size, counted from there.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.types import EVENT_DTYPE, Events

PACKETS: Final = ("event_camera_msgs/EventPacket", "event_array_msgs/EventArray")
"""Messages of encoded events."""
ARRAYS: Final = ("dvs_msgs/EventArray", "prophesee_event_msgs/EventArray")
"""Messages of an array of events."""
CDR_LITTLE_ENDIAN: Final = 1
ROS1_EVENT: Final = np.dtype(
    [("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")]
)


class EventMessage(NamedTuple):
    """One message's events.

    Attributes:
        width: The sensor's width; 0 where the driver does not say.
        height: The sensor's height.
        encoding: The encoding of `data`, such as `evt3`; empty where `data` is an
            array of events.
        time_base_ns: The time that some encodings count from, ns.
        data: The payload.
    """

    width: int
    height: int
    encoding: str
    time_base_ns: int
    data: bytes


def plain_type(name: str) -> str:
    """Return a type's name as ROS 1 has it: `package/Type`."""
    return name.replace("/msg/", "/")


def read_message(message: bytes, kind: str, *, is_ros2: bool) -> EventMessage:
    """Read a message of one of PACKETS or ARRAYS.

    Raises:
        ValueError: The message ends early, or its bytes are in big-endian order.
        struct.error: The message ends early.
    """
    fields = _Fields(message, is_ros2=is_ros2)
    if not is_ros2:
        fields.number("I")  # the header's sequence number
    fields.number("I"), fields.number("I"), fields.text()  # stamp and frame
    height, width = fields.number("I"), fields.number("I")
    if kind in ARRAYS:
        return EventMessage(width, height, "", 0, fields.rest())
    fields.number("Q")  # the packet's sequence number
    time_base_ns, encoding = fields.number("Q"), fields.text()
    if fields.number("B"):
        raise ValueError("a packet of big-endian words")
    return EventMessage(width, height, encoding, time_base_ns, fields.block())


class _Fields:
    """Reads one message's fields in order."""

    def __init__(self, message: bytes, *, is_ros2: bool) -> None:
        self._message = message
        self._is_ros2 = is_ros2
        self._place = 0
        if is_ros2:
            if message[1:2] != bytes([CDR_LITTLE_ENDIAN]):
                raise ValueError("a message that is not little-endian CDR")
            self._place = 4

    def number(self, code: str) -> int:
        size = struct.calcsize(f"<{code}")
        if self._is_ros2:
            self._place = 4 + -(-(self._place - 4) // size) * size
        (value,) = struct.unpack_from(f"<{code}", self._message, self._place)
        self._place += size
        return int(value)

    def block(self) -> bytes:
        size = self.number("I")
        data = self._message[self._place : self._place + size]
        if len(data) < size:
            raise ValueError(f"a block of {size} bytes that ends after {len(data)}")
        self._place += size
        return data

    def text(self) -> str:
        return self.block().rstrip(b"\0").decode("latin-1")

    def rest(self) -> bytes:
        """Return an array's length, as u32, and its elements."""
        count = self.number("I")
        return struct.pack("<I", count) + self._message[self._place :]


def read_array(data: bytes, *, is_ros2: bool) -> Events:
    """Convert what `EventMessage.data` holds of an array message.

    Raises:
        ValueError: The array ends early.
    """
    (count,) = struct.unpack_from("<I", data)
    if not count:
        return np.empty(0, EVENT_DTYPE)
    if is_ros2:
        # CDR aligns the seconds: the first event has 14 bytes, the others 16.
        first = _events(np.frombuffer(data, ROS1_EVENT, 1, 4))
        dtype = np.dtype(
            {
                "names": ["x", "y", "s", "ns", "p"],
                "formats": ["<u2", "<u2", "<u4", "<u4", "u1"],
                "offsets": [0, 2, 6, 10, 14],
                "itemsize": 16,
            }
        )
        others = np.frombuffer(data + b"\0", dtype, count - 1, 4 + 14)
        return np.concatenate([first, _events(others)])
    return _events(np.frombuffer(data, ROS1_EVENT, count, 4))


def _events(rows: npt.NDArray[Any]) -> Events:
    events = np.empty(len(rows), EVENT_DTYPE)
    events["t"] = rows["s"] * np.int64(1_000_000) + rows["ns"] // 1000
    for field in "xyp":
        events[field] = rows[field]
    return events

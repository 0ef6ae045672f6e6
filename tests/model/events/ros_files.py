"""Bags of events, written by `rosbags` and `mcap`."""

from __future__ import annotations

import numpy as np
from mcap.writer import CompressionType, Writer as McapFile
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

PACKET = """std_msgs/Header header
uint32 height
uint32 width
uint64 seq
uint64 time_base
string encoding
bool is_bigendian
uint8[] events
"""
EVENT = "uint16 x\nuint16 y\n{time} ts\nbool polarity\n"
ARRAY = (
    "std_msgs/Header header\nuint32 height\nuint32 width\n{package}/Event[] events\n"
)
HEADER = "builtin_interfaces/Time stamp\nstring frame_id\n"
STAMP = "int32 sec\nuint32 nanosec\n"
RULE = "=" * 80


def typestore(*, is_ros2):
    store = get_typestore(Stores.ROS2_HUMBLE if is_ros2 else Stores.ROS1_NOETIC)
    types = get_types_from_msg(PACKET, "event_camera_msgs/msg/EventPacket")
    time = "builtin_interfaces/Time" if is_ros2 else "time"
    for package in ("dvs_msgs", "prophesee_event_msgs"):
        name = f"{package}/msg/Event"
        types |= get_types_from_msg(EVENT.format(time=time), name)
        array = ARRAY.format(package=package)
        types |= get_types_from_msg(array, f"{name}Array")
    store.register(types)
    return store


def header(store, stamp_us, *, is_ros2):
    stamp = store.types["builtin_interfaces/msg/Time"](
        int(stamp_us // 1_000_000), int(stamp_us % 1_000_000) * 1000
    )
    sequence = () if is_ros2 else (0,)
    return store.types["std_msgs/msg/Header"](*sequence, stamp, "camera")


def packets(store, payloads, encoding, size=(640, 480), bases_ns=None, *, is_ros2):
    """Return messages of encoded events."""
    make = store.types["event_camera_msgs/msg/EventPacket"]
    bases_ns = bases_ns or [0] * len(payloads)
    return [
        make(header(store, 0, is_ros2=is_ros2), size[1], size[0], seq, base, encoding,
             False, np.frombuffer(data, np.uint8))
        for seq, (data, base) in enumerate(zip(payloads, bases_ns, strict=True))
    ]  # fmt: skip


def arrays(store, events, package, size=(128, 128), count=300, *, is_ros2):
    """Return messages of arrays of events, `count` in each."""
    one = store.types[f"{package}/msg/Event"]
    time = store.types["builtin_interfaces/msg/Time"]
    many = store.types[f"{package}/msg/EventArray"]
    made = []
    for begin in range(0, len(events), count):
        rows = events[begin : begin + count].tolist()
        parts = [
            one(x, y, time(t // 1_000_000, t % 1_000_000 * 1000), bool(p))
            for t, x, y, p in rows
        ]
        made.append(many(header(store, 0, is_ros2=is_ros2), size[1], size[0], parts))
    return made


def write_ros1(path, topics, store):
    with Writer1(path) as bag:
        for topic, messages in topics.items():
            kind = messages[0].__msgtype__
            connection = bag.add_connection(topic, kind, typestore=store)
            for stamp, message in enumerate(messages):
                data = store.serialize_ros1(message, kind)
                bag.write(connection, stamp, data)


def write_ros2(path, topics, store, plugin=StoragePlugin.SQLITE3):
    with Writer2(path, version=9, storage_plugin=plugin) as bag:
        for topic, messages in topics.items():
            kind = messages[0].__msgtype__
            connection = bag.add_connection(topic, kind, typestore=store)
            for stamp, message in enumerate(messages):
                data = store.serialize_cdr(message, kind)
                bag.write(connection, stamp, data)


def write_mcap(path, topic, messages, store, compression=CompressionType.LZ4):
    """Write with the package `mcap`, as robots' own recorders do."""
    definition = f"{RULE}\nMSG: ".join(
        [PACKET, f"std_msgs/Header\n{HEADER}", f"builtin_interfaces/Time\n{STAMP}"]
    )
    with path.open("wb") as file:
        writer = McapFile(file, compression=compression, chunk_size=1 << 14)
        writer.start(profile="ros2")
        kind = messages[0].__msgtype__
        schema = writer.register_schema(kind, "ros2msg", definition.encode())
        channel = writer.register_channel(topic, "cdr", schema)
        for stamp, message in enumerate(messages):
            data = bytes(store.serialize_cdr(message, kind))
            writer.add_message(channel, stamp, data, stamp)
        writer.finish()

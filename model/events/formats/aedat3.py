"""Reader of AEDAT 3.1, cAER's files: a text header, then packets of events.

A packet is a head of 28 bytes, then its events. Packets of other kinds than polarity
events are skipped. A polarity event has eight bytes; everything is little-endian:

    u32  x << 17 | y << 2 | p << 1 | valid
    u32  t_us, the low 31 bits; the packet's head has the higher ones
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.geometry import CAMERAS, choose_sensor, find_camera
from saccade.model.events.reading import Findings, Opened, ReadOptions
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

CHUNK_EVENTS: Final = 1 << 16
MAX_LINE_BYTES: Final = 1 << 12
PACKET_DTYPE: Final = np.dtype(
    [
        ("kind", "<i2"),
        ("source", "<i2"),
        ("size", "<i4"),
        ("time_offset", "<i4"),
        ("time_overflow", "<i4"),
        ("capacity", "<i4"),
        ("number", "<i4"),
        ("valid", "<i4"),
    ]
)
POLARITY: Final = 1
POLARITY_BYTES: Final = 8
TIME_BITS: Final = 31


class Packet(NamedTuple):
    """A packet of polarity events in a file.

    Attributes:
        begin: Place of the first event, bytes from the file's start.
        number: Number of events.
        epoch: Wraps of the 31-bit clock before the packet.
        all_valid: Whether no event is marked as invalid.
        first_us: Timestamp of the first event, µs.
    """

    begin: int
    number: int
    epoch: int
    all_valid: bool
    first_us: int


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open an AEDAT 3.1 file.

    Raises:
        MalformedRecording: The header or a packet cannot be read.
        UnsupportedRecording: The packets are compressed.
    """
    with path.open("rb") as file:
        named = _header(path, file)
    findings = Findings()
    known = (named, "camera") if named else None
    sensor, origin = choose_sensor(options, findings, lambda: _decoded(path), known)
    return Opened(sensor, origin, _decoded(path), findings=findings)


def packets(path: Path) -> Iterator[Packet]:
    """Yield a file's packets of polarity events, in order; empty ones are left out.

    Raises:
        MalformedRecording: A packet contradicts itself, or the file ends inside one.
        UnsupportedRecording: The packets are compressed.
    """
    with path.open("rb") as file:
        _header(path, file)
        end = os.fstat(file.fileno()).st_size
        while data := file.read(PACKET_DTYPE.itemsize):
            if len(data) < PACKET_DTYPE.itemsize:
                raise MalformedRecording(path, "truncated: it ends inside a packet")
            head = {
                name: int(value)
                for name, value in zip(
                    PACKET_DTYPE.names or (),
                    np.frombuffer(data, PACKET_DTYPE)[0].tolist(),
                    strict=True,
                )
            }
            begin = file.tell()
            after = begin + _payload_bytes(path, begin, head)
            if after > end:
                raise MalformedRecording(path, "truncated: it ends inside a packet")
            if head["kind"] == POLARITY and head["number"]:
                yield _packet(file, begin, head)
            file.seek(after)


def read_packet(path: Path, file: BinaryIO, packet: Packet) -> Iterator[Events]:
    """Yield a packet's events in chunks of bounded size, with their own timestamps."""
    for start in range(0, packet.number, CHUNK_EVENTS):
        wanted = min(CHUNK_EVENTS, packet.number - start) * POLARITY_BYTES
        file.seek(packet.begin + start * POLARITY_BYTES)
        data = file.read(wanted)
        if len(data) < wanted:
            raise MalformedRecording(path, "truncated: it ends inside a packet")
        words = np.frombuffer(data, "<u4").reshape(-1, 2)
        if not packet.all_valid:
            words = words[words[:, 0] & 1 == 1]
        events = np.empty(len(words), EVENT_DTYPE)
        events["t"] = words[:, 1].astype(np.int64) + (packet.epoch << TIME_BITS)
        events["x"] = words[:, 0] >> 17
        events["y"] = words[:, 0] >> 2 & 0x7FFF
        events["p"] = words[:, 0] >> 1 & 1
        yield events


def _decoded(path: Path) -> Iterator[Events]:
    with path.open("rb") as file:
        for packet in packets(path):
            yield from read_packet(path, file, packet)


def _packet(file: BinaryIO, begin: int, head: dict[str, int]) -> Packet:
    first = np.frombuffer(file.read(POLARITY_BYTES), "<u4")
    epoch = head["time_overflow"]
    return Packet(
        begin,
        head["number"],
        epoch,
        all_valid=head["valid"] == head["number"],
        first_us=int(first[1]) + (epoch << TIME_BITS),
    )


def _payload_bytes(path: Path, begin: int, head: dict[str, int]) -> int:
    wrong = [name for name in ("size", "number", "time_overflow") if head[name] < 0]
    if head["kind"] == POLARITY and head["size"] != POLARITY_BYTES:
        wrong.append("size")
    if wrong:
        reason = f"the packet before byte {begin} has {wrong[0]} {head[wrong[0]]}"
        raise MalformedRecording(path, reason)
    return head["size"] * head["number"]


def _header(path: Path, file: BinaryIO) -> Sensor | None:
    """Read the header, leave the file at its first packet, return the named camera."""
    found = None
    for line in iter(lambda: file.readline(MAX_LINE_BYTES), b""):
        text = line.decode("latin-1").strip()
        if text == "#!END-HEADER":
            return found
        if not text.startswith("#"):
            break
        key, _, value = text.partition(": ")
        if key == "#Format" and value.upper() != "RAW":
            raise UnsupportedRecording(path, f"packets in format {value}; RAW is read")
        if key.startswith("#Source"):
            camera = find_camera(value.replace("-", ""))
            found = CAMERAS[camera] if camera else found
    raise MalformedRecording(path, "its header does not end in #!END-HEADER")

"""Reader of AEDAT 3.1, cAER's files: a text header, then packets of events.

A packet is a head of 28 bytes, then its events; everything is little-endian. Those of
two kinds have eight bytes an event, and are read:

    u32  polarity: x << 17 | y << 2 | p << 1 | valid
         special: data << 8 | type << 1 | valid
    u32  t_us, the low 31 bits; the packet's head has the higher ones

A packet's source is the number of a camera that the header names. The special event
of type 1 says that the cameras' clock begins at 0 again: time goes on from there.
Packets of other kinds are counted and skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.clock import ResettableClock
from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.geometry import CAMERAS, choose_sensor, find_camera
from saccade.model.events.reading import (
    MOST_TRIGGERS,
    Findings,
    Opened,
    ReadOptions,
    Trigger,
    choose_camera,
    end_early,
)
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
SPECIAL: Final = 0
POLARITY: Final = 1
KINDS: Final = {2: "frames", 3: "inertial samples", 4: "inertial samples"}
EVENT_BYTES: Final = 8
TIME_BITS: Final = 31
TIMESTAMP_RESET: Final = 1
TRIGGERS: Final = {2: True, 3: False}
"""The types of special events at the camera's input, and whether the edge rises."""
Words = npt.NDArray[np.uint32]
INSIDE_A_PACKET: Final = "it ends inside a packet"


class Packet(NamedTuple):
    """A packet of polarity or special events in a file.

    Attributes:
        kind: POLARITY or SPECIAL.
        source: The number of the camera.
        begin: Place of the first event, bytes from the file's start.
        number: Number of events.
        epoch: Wraps of the 31-bit clock before the packet.
        all_valid: Whether no event is marked as invalid.
        first_us: Timestamp of the first event, µs.
    """

    kind: int
    source: int
    begin: int
    number: int
    epoch: int
    all_valid: bool
    first_us: int


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open an AEDAT 3.1 file.

    Raises:
        MalformedRecording: The header or a packet cannot be read.
        UnsupportedRecording: The packets are compressed, or no camera is the caller's.
    """
    findings = Findings()
    with path.open("rb") as file:
        named = _header(path, file)
    sources = _sources(path, options)
    names = [f"{source} {named.get(source, 'unnamed')}" for source in sources]
    chosen = choose_camera(path, names, options, findings) if names else 0
    source = sources[chosen] if sources else 0
    camera = find_camera(named.get(source, "").replace("-", ""))
    sensor, origin = choose_sensor(
        options,
        findings,
        lambda: _decoded(path, source, options, Findings()),
        (CAMERAS[camera], "camera") if camera else None,
    )
    cameras = tuple(dict.fromkeys([*names[chosen : chosen + 1], *names]))
    chunks = _decoded(path, source, options, findings)
    return Opened(sensor, origin, chunks, cameras, findings, "AEDAT 3.1 (cAER)")


def packets(path: Path) -> Iterator[Packet]:
    """Yield a file's packets of polarity events, in order; empty ones are left out.

    Raises:
        MalformedRecording: A packet contradicts itself, or the file ends inside one.
        UnsupportedRecording: The packets are compressed.
    """
    every = _packets(path, ReadOptions(), Findings())
    return (packet for packet in every if packet.kind == POLARITY)


def _packets(path: Path, options: ReadOptions, findings: Findings) -> Iterator[Packet]:
    """Yield a file's packets of polarity and special events, none of them empty."""
    with path.open("rb") as file:
        _header(path, file)
        end = os.fstat(file.fileno()).st_size
        while data := file.read(PACKET_DTYPE.itemsize):
            if len(data) < PACKET_DTYPE.itemsize:
                end_early(path, INSIDE_A_PACKET, options, findings)
                return
            head = _head(data)
            begin = file.tell()
            after = begin + _payload_bytes(path, begin, head)
            if after > end:
                end_early(path, INSIDE_A_PACKET, options, findings)
                head["number"] = (end - begin) // max(head["size"], 1)
            if head["kind"] not in (POLARITY, SPECIAL):
                findings.skipped[KINDS.get(head["kind"], "others")] += head["number"]
            elif head["number"]:
                yield _packet(file, begin, head)
            file.seek(after)


def _sources(path: Path, options: ReadOptions) -> list[int]:
    """Return the numbers of the cameras that have events, the first one's first."""
    every = _packets(path, options, Findings())
    return [*dict.fromkeys(p.source for p in every if p.kind == POLARITY)]


def read_packet(path: Path, file: BinaryIO, packet: Packet) -> Iterator[Events]:
    """Yield a polarity packet's events in bounded chunks, with their own timestamps."""
    for start in range(0, packet.number, CHUNK_EVENTS):
        words = _words(path, file, packet, start)
        events = np.empty(len(words), EVENT_DTYPE)
        events["t"] = words[:, 1].astype(np.int64) + (packet.epoch << TIME_BITS)
        events["x"] = words[:, 0] >> 17
        events["y"] = words[:, 0] >> 2 & 0x7FFF
        events["p"] = words[:, 0] >> 1 & 1
        yield events


def _words(path: Path, file: BinaryIO, packet: Packet, start: int) -> Words:
    """Read a chunk of a packet's valid events, (n, 2)."""
    wanted = min(CHUNK_EVENTS, packet.number - start) * EVENT_BYTES
    file.seek(packet.begin + start * EVENT_BYTES)
    data = file.read(wanted)
    if len(data) < wanted:
        raise MalformedRecording(path, f"truncated: {INSIDE_A_PACKET}")
    words = np.frombuffer(data, "<u4").reshape(-1, 2)
    return words if packet.all_valid else words[words[:, 0] & 1 == 1]


def _decoded(
    path: Path, source: int, options: ReadOptions, findings: Findings
) -> Iterator[Events]:
    clock = ResettableClock()
    with path.open("rb") as file:
        for packet in _packets(path, options, findings):
            if packet.source != source:
                continue
            if packet.kind == SPECIAL:
                _note_special(path, file, packet, clock, findings)
                continue
            findings.wraps = max(findings.wraps, packet.epoch)
            for events in read_packet(path, file, packet):
                events["t"] = clock.apply(events["t"])
                yield events


def _note_special(
    path: Path,
    file: BinaryIO,
    packet: Packet,
    clock: ResettableClock,
    findings: Findings,
) -> None:
    """Note a packet's resets of the clock, and its triggers."""
    for start in range(0, packet.number, CHUNK_EVENTS):
        for word, low in _words(path, file, packet, start).tolist():
            kind, t_us = word >> 1 & 0x7F, low + (packet.epoch << TIME_BITS)
            if kind == TIMESTAMP_RESET:
                findings.resets += clock.reset()
            elif kind in TRIGGERS and len(findings.triggers) < MOST_TRIGGERS:
                trigger = Trigger(clock.shift(t_us), 0, TRIGGERS[kind])
                findings.triggers.append(trigger)


def _head(data: bytes) -> dict[str, int]:
    values = np.frombuffer(data, PACKET_DTYPE)[0].tolist()
    return dict(zip(PACKET_DTYPE.names or (), map(int, values), strict=True))


def _packet(file: BinaryIO, begin: int, head: dict[str, int]) -> Packet:
    first = np.frombuffer(file.read(EVENT_BYTES), "<u4")
    epoch = head["time_overflow"]
    return Packet(
        head["kind"],
        head["source"],
        begin,
        head["number"],
        epoch,
        all_valid=head["valid"] == head["number"],
        first_us=int(first[1]) + (epoch << TIME_BITS),
    )


def _payload_bytes(path: Path, begin: int, head: dict[str, int]) -> int:
    wrong = [name for name in ("size", "number", "time_overflow") if head[name] < 0]
    if head["kind"] in (POLARITY, SPECIAL) and head["size"] != EVENT_BYTES:
        wrong.append("size")
    if wrong:
        reason = f"the packet before byte {begin} has {wrong[0]} {head[wrong[0]]}"
        raise MalformedRecording(path, reason)
    return head["size"] * head["number"]


def _header(path: Path, file: BinaryIO) -> dict[int, str]:
    """Read the header, leave the file at its first packet, return the cameras' names.

    The key is the source's number.
    """
    named: dict[int, str] = {}
    for line in iter(lambda: file.readline(MAX_LINE_BYTES), b""):
        text = line.decode("latin-1").strip()
        if text == "#!END-HEADER":
            return named
        if not text.startswith("#"):
            break
        key, _, value = text.partition(": ")
        if key == "#Format" and value.upper() != "RAW":
            raise UnsupportedRecording(path, f"packets in format {value}; RAW is read")
        number = key.removeprefix("#Source ")
        if number != key and number.isdecimal():
            named[int(number)] = value.strip()
    raise MalformedRecording(path, "its header does not end in #!END-HEADER")

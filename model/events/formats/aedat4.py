"""Reader of AEDAT4, DV's files, which the package `faery` decodes.

A file holds tracks: of events, one for each camera, and of frames, inertial samples and
triggers. A track's description names the camera that it is from. A file that ends
inside the table at its end cannot be opened.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from saccade.model.events.errors import MalformedRecording, ReaderMissing
from saccade.model.events.formats.faery import errors_translated
from saccade.model.events.geometry import choose_sensor
from saccade.model.events.reading import (
    MOST_TRIGGERS,
    Findings,
    Opened,
    ReadOptions,
    Trigger,
    choose_camera,
    end_early,
)
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events, as_events

SKIPPED: Final = {"frame": "frames", "imus": "inertial samples"}
TRIGGERS: Final = {1: (0, True), 2: (0, False), 4: (1, True), 5: (1, False)}
"""The sources of triggers that are edges: the input's or the generator's, rising or
falling; others are pulses, and beginnings and ends of frames."""
MAGIC_BYTES: Final = 14
MOST_HEADER_BYTES: Final = 1 << 24
PACKET_HEAD_BYTES: Final = 8
END: Final[tuple[Any, Any]] = (None, None)


class Track(NamedTuple):
    """A camera's events, and the source of its other tracks."""

    number: int
    source: str
    name: str
    sensor: Sensor


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open an AEDAT4 file.

    Raises:
        MalformedRecording: `faery` cannot read it, or it holds no track of events.
        UnsupportedRecording: No camera is the caller's.
        ReaderMissing: `faery` is not installed.
    """
    findings = Findings()
    tracks = _tracks(path)
    if not tracks:
        raise MalformedRecording(path, "it holds no track of events")
    names = [track.name for track in tracks]
    track = tracks[choose_camera(path, names, options, findings)]
    sensor, origin = choose_sensor(
        options,
        findings,
        lambda: _chunks(path, track, options, Findings()),
        (track.sensor, "header"),
    )
    cameras = tuple(dict.fromkeys([track.name, *names]))
    chunks = _chunks(path, track, options, findings)
    return Opened(sensor, origin, chunks, cameras, findings, "AEDAT4 (DV)")


def _decoder(path: Path) -> Any:
    try:
        import faery
    except ImportError as error:
        raise ReaderMissing("faery") from error
    _read_header(path)
    return faery.aedat.Decoder(path)


def _read_header(path: Path) -> tuple[int, int]:
    """Return where packets begin, and where the table that follows them should.

    A header is a FlatBuffer behind its size; its second field is the table's place
    (not above 0 where the recorder did not end well), its third the description. With
    a description that is no text, `faery` would end the process.

    Raises:
        ValueError: The header is cut or damaged.
    """
    with path.open("rb") as file:
        file.seek(MAGIC_BYTES)
        start = file.read(4)
        size = int.from_bytes(start, "little")
        header = file.read(min(size, MOST_HEADER_BYTES))
    try:
        table = _check_header(header)
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"its header is cut or damaged: {error}") from error
    return MAGIC_BYTES + len(start) + size, table


def _check_header(header: bytes) -> int:
    (root,) = struct.unpack_from("<I", header)
    (back,) = struct.unpack_from("<i", header, root)
    position, text = struct.unpack_from("<HH", header, root - back + 6)
    (table,) = struct.unpack_from("<q", header, root + position)
    text += root
    text += struct.unpack_from("<I", header, text)[0]
    (length,) = struct.unpack_from("<I", header, text)
    header[text + 4 : text + 4 + length].decode("utf-8")
    return int(table)


def _count_packets(path: Path) -> tuple[int, bool]:
    """Count the packets that are whole, and say whether another one is cut.

    `faery` takes as much memory as a packet's size says, whatever the file's.
    """
    begin, table = _read_header(path)
    file_bytes = path.stat().st_size
    end, count = (table if table > 0 else file_bytes), 0
    with path.open("rb") as file:
        while begin + PACKET_HEAD_BYTES <= min(end, file_bytes):
            file.seek(begin)
            _, size = struct.unpack("<iI", file.read(PACKET_HEAD_BYTES))
            begin += PACKET_HEAD_BYTES + size
            if begin > file_bytes:
                return count, True
            count += 1
    return count, begin < end


def _tracks(path: Path) -> list[Track]:
    with errors_translated(path):
        decoder = _decoder(path)
        sources = _sources(decoder.description())
        return [
            Track(
                track.id,
                sources.get(track.id, ""),
                f"{track.id} {sources.get(track.id, 'unnamed')}",
                Sensor(*track.dimensions),
            )
            for track in decoder.tracks()
            if track.data_type == "events"
        ]


def _sources(description: list[Any]) -> dict[int, str]:
    """Return the name of the camera of each track."""
    found = {}
    for number in [node for root in description for node in root.nodes]:
        for info in number.nodes:
            source = info.attributes.get("source")
            if number.name.isdecimal() and source is not None:
                found[int(number.name)] = str(source.value)
    return found


def _chunks(
    path: Path, track: Track, options: ReadOptions, findings: Findings
) -> Iterator[Events]:
    with errors_translated(path):
        decoder = _decoder(path)
        sources = _sources(decoder.description())
        count, is_cut = _count_packets(path)
        packets = iter(decoder)
    for _ in range(count):
        try:
            with errors_translated(path):
                found, packet = next(packets, END)
        except MalformedRecording as error:
            end_early(path, error.reason, options, findings)
            return
        if found is None:
            return
        if found.data_type == "events" and found.id == track.number:
            yield as_events(packet)
        elif sources.get(found.id, "") == track.source:
            _note(found.data_type, packet, findings)
    if is_cut:
        end_early(path, "it ends inside a packet", options, findings)


def _note(kind: str, packet: Any, findings: Findings) -> None:
    """Count a packet of another kind; keep its triggers."""
    if kind in SKIPPED:
        findings.skipped[SKIPPED[kind]] += len(packet) if kind == "imus" else 1
    if kind != "triggers" or not isinstance(packet, np.ndarray):
        return
    for t_us, source in packet.tolist():
        if source in TRIGGERS and len(findings.triggers) < MOST_TRIGGERS:
            findings.triggers.append(Trigger(t_us, *TRIGGERS[source]))

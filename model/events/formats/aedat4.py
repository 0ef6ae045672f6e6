"""Reader of AEDAT4, DV's files, which the package `faery` decodes.

A file holds tracks: of events, one for each camera, and of frames, inertial samples and
triggers. A track's description names the camera that it is from. A file that ends
inside the table at its end cannot be opened.
"""

from __future__ import annotations

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
    return faery.aedat.Decoder(path)


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
        packets = iter(decoder)
    while True:
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


def _note(kind: str, packet: Any, findings: Findings) -> None:
    """Count a packet of another kind; keep its triggers."""
    if kind in SKIPPED:
        findings.skipped[SKIPPED[kind]] += len(packet) if kind == "imus" else 1
    if kind != "triggers" or not isinstance(packet, np.ndarray):
        return
    for t_us, source in packet.tolist():
        if source in TRIGGERS and len(findings.triggers) < MOST_TRIGGERS:
            findings.triggers.append(Trigger(t_us, *TRIGGERS[source]))

"""Opening a recorded file as a stream of events, by the file's suffix.

Timestamps of every format are rebased: the first event is at 0 µs. (A camera's
clock may count from its start or, as in AEDAT4, from the year 1970.) Timestamps
that run backwards are kept, for `types.check` to refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from saccade.model.events.clock import unwrap_sorted
from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.formats import (
    aedat2,
    aedat3,
    aedat4,
    csv,
    dat,
    faery,
    hdf5,
    nmnist,
    npy,
    raw,
    ros,
)
from saccade.model.events.reading import (
    Findings,
    Opened,
    Opener,
    Origin,
    ReadOptions,
    Trigger,
)
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

AEDAT_MAGIC: Final = b"#!AER-DAT"
MAX_VERSION_BYTES: Final = 8


@dataclass(frozen=True)
class Recording:
    """An opened file.

    Attributes:
        sensor: The camera's geometry.
        events: Chunks of events in the file's order, each of bounded size;
            can be iterated once. Iterating may raise MalformedRecording.
        origin: Where the geometry is from.
        cameras: The names of all cameras in the file, that which is read first.
        findings: What is met beside events, complete once all events were read.
        format: The format, for people; empty where the suffix says it.
    """

    sensor: Sensor
    events: Iterator[Events]
    origin: Origin
    cameras: tuple[str, ...]
    findings: Findings
    format: str = ""


def open_recording(
    path: Path | str,
    sensor: Sensor | None = None,
    clock_bits: int | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (it is frozen)
) -> Recording:
    """Open a recording by its suffix.

    Args:
        path: The file; or a ROS 2 bag's folder.
        sensor: The geometry, where the file lacks it or has it wrong; short for
            `options.sensor`.
        clock_bits: The file holds the counts of a clock that wraps after
            2^clock_bits µs. (RAW and DAT files need no such hint.)
        options: What else the caller says of the file.

    Returns:
        The sensor and an iterator of event chunks, the first event at 0 µs.

    Raises:
        MalformedRecording: The file is missing, empty or truncated.
        UnsupportedRecording: No reader is there for the format.
    """
    path = Path(path)
    options = replace(options, sensor=sensor or options.sensor)
    return rebased(path, open_stored(path, options, clock_bits))


def open_stored(
    path: Path, options: ReadOptions, clock_bits: int | None = None
) -> Opened:
    """Open a recording by its suffix, with timestamps as they are in the file.

    Raises:
        MalformedRecording: The file is missing, empty or truncated.
        UnsupportedRecording: No reader is there for the format, or no camera is the
            caller's.
    """
    is_bag = (path / "metadata.yaml").is_file()
    opener = ros.open_file if is_bag else OPENERS.get(path.suffix.lower())
    if opener is None:
        reason = f"no reader for {path.suffix or 'no suffix'}; {', '.join(OPENERS)}"
        raise UnsupportedRecording(path, reason)
    if not path.is_file() and not is_bag:
        raise MalformedRecording(path, "no such file")
    try:
        if not path.stat().st_size:
            raise MalformedRecording(path, "the file is empty")
        opened = opener(path, options)
    except OSError as error:
        raise MalformedRecording(path, error.strerror or str(error)) from error
    if not opened.cameras and options.camera not in (None, "1"):
        reason = f"no camera is named {options.camera}; it holds one, without a name"
        raise UnsupportedRecording(path, reason)
    if clock_bits is None:
        return opened
    return replace(opened, chunks=_unwrapped(opened.chunks, clock_bits))


def rebased(path: Path, opened: Opened) -> Recording:
    """Return an opened file as a recording, whose first event is at 0 µs."""
    return Recording(
        opened.sensor,
        _rebased(path, opened),
        opened.origin,
        opened.cameras,
        opened.findings,
        opened.format,
    )


def _unwrapped(chunks: Iterator[Events], bits: int) -> Iterator[Events]:
    newest_us = None
    for events in chunks:
        events["t"] = unwrap_sorted(events["t"], bits, newest_us)
        newest_us = int(events["t"][-1]) if events.size else newest_us
        yield events


def _rebased(path: Path, opened: Opened) -> Iterator[Events]:
    """Shift time so that the first event is at 0 µs; leave out empty chunks."""
    findings, first_us, shifted = opened.findings, None, 0
    triggers = findings.triggers
    try:
        for events in opened.chunks:
            if not events.size:
                continue
            if first_us is None:
                first_us = findings.start_us = int(events["t"][0])
            events["t"] -= first_us
            shifted = _shift(triggers, shifted, first_us)
            yield events
    except OSError as error:
        raise MalformedRecording(path, error.strerror or str(error)) from error
    if first_us is None:
        raise MalformedRecording(path, "the file holds no events")
    _shift(triggers, shifted, first_us)


def _shift(triggers: list[Trigger], begin: int, first_us: int) -> int:
    """Shift the triggers from `begin` on as the events; return how many there are."""
    for place in range(begin, len(triggers)):
        trigger = triggers[place]
        triggers[place] = trigger._replace(t_us=trigger.t_us - first_us)
    return len(triggers)


def _open_aedat(path: Path, options: ReadOptions) -> Opened:
    """Open an AEDAT file of any version; its first line holds the version."""
    with path.open("rb") as file:
        line = file.readline(len(AEDAT_MAGIC) + MAX_VERSION_BYTES)
    if not line.startswith(AEDAT_MAGIC):
        raise UnsupportedRecording(path, "it does not begin with #!AER-DAT")
    version = line[len(AEDAT_MAGIC) :].decode("latin-1").strip()
    if version not in AEDAT_OPENERS:
        known = ", ".join(AEDAT_OPENERS)
        raise UnsupportedRecording(path, f"AEDAT {version}; {known} are read")
    return AEDAT_OPENERS[version](path, options)


OPENERS: Final[dict[str, Opener]] = {
    ".aedat": _open_aedat,
    ".aedat2": _open_aedat,
    ".aedat4": _open_aedat,
    ".bag": ros.open_file,
    ".bin": nmnist.open_file,
    ".csv": csv.open_file,
    ".dat": dat.open_file,
    ".db3": ros.open_file,
    ".es": faery.open_file,
    ".h5": hdf5.open_file,
    ".hdf5": hdf5.open_file,
    ".mcap": ros.open_file,
    ".npy": npy.open_file,
    ".npz": npy.open_file,
    ".raw": raw.open_file,
    ".tsv": csv.open_file,
    ".txt": csv.open_file,
}
"""The reader of each suffix, in lower case; the one list of formats."""

AEDAT_OPENERS: Final[dict[str, Opener]] = {
    "2.0": aedat2.open_file,
    "3.1": aedat3.open_file,
    "4.0": aedat4.open_file,
}
"""The reader of each version of AEDAT."""

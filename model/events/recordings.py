"""Opening a recorded file as a stream of events.

Timestamps of every format are rebased: the first event is at 0 µs. (A camera's
clock may count from its start or, as in AEDAT4, from the year 1970.) A file
whose timestamps run backwards is yielded as it is: `checks.check` names where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from saccade.model.events.clock import count_on
from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.formats import aedat, csv, dat, faery, nmnist, npy, raw
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events


@dataclass(frozen=True)
class Recording:
    """An opened file.

    Attributes:
        sensor: The camera's geometry.
        events: Chunks of events in the file's order, each of bounded size;
            can be iterated once. Iterating may raise MalformedRecording.
    """

    sensor: Sensor
    events: Iterator[Events]


Opener: TypeAlias = Callable[[Path, Sensor | None], tuple[Sensor, Iterator[Events]]]

OPENERS: Final[dict[str, Opener]] = {
    ".aedat": aedat.open_file,
    ".aedat2": aedat.open_file,
    ".aedat4": aedat.open_file,
    ".bin": nmnist.open_file,
    ".csv": csv.open_file,
    ".dat": dat.open_file,
    ".es": faery.open_file,
    ".npy": npy.open_file,
    ".npz": npy.open_file,
    ".raw": raw.open_file,
}
"""The suffix, in lower case, decides who reads a file."""


def open_recording(
    path: Path | str, sensor: Sensor | None = None, clock_bits: int | None = None
) -> Recording:
    """Open a recording by its suffix.

    Args:
        path: The file.
        sensor: The geometry, where the file does not say it, or says it wrong.
        clock_bits: The timestamps were written as the camera's clock counts, which
            wraps after 2^clock_bits µs. (RAW and DAT need not say it.)

    Returns:
        The sensor and an iterator of event chunks, the first event at 0 µs.

    Raises:
        MalformedRecording: The file is missing, empty or truncated.
        UnsupportedRecording: No reader knows the format.
    """
    path = Path(path)
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        reason = f"no reader for {path.suffix or 'no suffix'}; {', '.join(OPENERS)}"
        raise UnsupportedRecording(path, reason)
    if not path.is_file():
        raise MalformedRecording(path, "no such file")
    try:
        if not path.stat().st_size:
            raise MalformedRecording(path, "the file is empty")
        found, chunks = opener(path, sensor)
    except OSError as error:
        raise MalformedRecording(path, error.strerror or str(error)) from error
    if clock_bits is not None:
        chunks = _counted_on(chunks, clock_bits)
    return Recording(found, _rebased(path, chunks))


def _counted_on(chunks: Iterator[Events], bits: int) -> Iterator[Events]:
    newest_us = None
    for events in chunks:
        events["t"] = count_on(events["t"], bits, newest_us)
        newest_us = int(events["t"][-1]) if events.size else newest_us
        yield events


def _rebased(path: Path, chunks: Iterator[Events]) -> Iterator[Events]:
    """Shift time so that the first event is at 0 µs; leave out empty chunks."""
    first_us = None
    try:
        for events in chunks:
            if events.size:
                first_us = events["t"][0] if first_us is None else first_us
                events["t"] -= first_us
                yield events
    except OSError as error:
        raise MalformedRecording(path, error.strerror or str(error)) from error
    if first_us is None:
        raise MalformedRecording(path, "the file holds no events")

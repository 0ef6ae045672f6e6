"""AEDAT files: the first line tells the version, and the version who reads the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from saccade.model.events.errors import UnsupportedRecording
from saccade.model.events.formats import aedat2, aedat3, faery
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

MAGIC: Final = b"#!AER-DAT"
MAX_VERSION_BYTES: Final = 8
READERS: Final = {
    "2.0": aedat2.open_file,
    "3.1": aedat3.open_file,
    "4.0": faery.open_file,
}


def open_file(path: Path, sensor: Sensor | None) -> tuple[Sensor, Iterator[Events]]:
    """Open an AEDAT file of version 2, 3.1 or 4.

    Raises:
        UnsupportedRecording: It is of another version, or no AEDAT at all.
        MalformedRecording: Its reader cannot read it.
    """
    with path.open("rb") as file:
        line = file.readline(len(MAGIC) + MAX_VERSION_BYTES)
    if not line.startswith(MAGIC):
        raise UnsupportedRecording(path, "it does not begin with #!AER-DAT")
    version = line[len(MAGIC) :].decode("latin-1").strip()
    if version not in READERS:
        known = ", ".join(READERS)
        raise UnsupportedRecording(path, f"AEDAT {version}; {known} are read")
    return READERS[version](path, sensor)

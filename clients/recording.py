"""Events kept in a file while they are streamed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from saccade.clients.errors import ClientError
from saccade.model.events.errors import ReaderMissing
from saccade.model.events.reading import Findings
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

SUFFIX: Final = ".aedat4"
LARGEST_SIDE: Final = 1 << 15
"""AEDAT4 holds coordinates in 16 bits with a sign."""
FAERY_DTYPE: Final = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])


class Unrecordable(ClientError):
    """Events cannot be kept in the file that the user names."""


class Recorder:
    """Writes an AEDAT4 file through `faery`: whole timestamps, and the geometry.

    Its thread-safe `write` may be called until the context ends; then the file is
    whole. Events that step back in time cannot be in such a file; they are counted.

    Raises:
        Unrecordable: The file exists, has another suffix or cannot be made.
        ReaderMissing: `faery` is not installed.
    """

    def __init__(self, path: Path, sensor: Sensor, findings: Findings) -> None:
        if path.suffix.lower() != SUFFIX:
            raise Unrecordable(
                f"{path}: recordings are AEDAT4; name it {path.stem}{SUFFIX}"
            )
        if path.exists():
            raise Unrecordable(f"{path}: there is such a file already")
        if max(sensor.width, sensor.height) > LARGEST_SIDE:
            raise Unrecordable(f"{path}: AEDAT4 holds no sensor of {sensor}")
        self._encoder = _encoder(path, sensor)
        self._findings = findings
        self._newest_us = 0
        self._lock = threading.Lock()
        self._open = True

    def __enter__(self) -> Self:
        self._encoder.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        with self._lock:
            self._open = False
            self._encoder.__exit__(None, None, None)

    def write(self, events: Events) -> None:
        """Append events."""
        with self._lock:
            if self._open and events.size:
                self._write(events)

    def passed(self, chunks: Iterator[Events]) -> Iterator[Events]:
        """Yield a stream as it is, and write it."""
        for events in chunks:
            self.write(events)
            yield events

    def _write(self, events: Events) -> None:
        newest_us = np.maximum.accumulate(np.maximum(events["t"], self._newest_us))
        kept = events[events["t"] == newest_us]
        if kept.size < events.size:
            unsorted = events.size - kept.size
            self._findings.skipped["events out of order (not recorded)"] += unsorted
        self._newest_us = int(newest_us[-1])
        if kept.size:
            packet = np.empty(kept.size, FAERY_DTYPE)
            packet["t"], packet["x"], packet["y"] = kept["t"], kept["x"], kept["y"]
            packet["on"] = kept["p"]
            self._encoder.write(0, packet)


def _encoder(path: Path, sensor: Sensor) -> Any:
    try:
        from faery import aedat
    except ImportError as error:
        raise ReaderMissing("faery") from error
    try:
        return aedat.Encoder(path, _description(aedat, sensor), aedat.LZ4_FASTEST)
    except Exception as error:  # faery raises bare exceptions
        raise Unrecordable(f"{path}: {error}") from error


def _description(aedat: Any, sensor: Sensor) -> list[Any]:
    """Return the tree of AEDAT4's header for one track of events."""

    def node(path: str, leaf: dict[str, str | int], *nodes: Any) -> Any:
        attributes = {
            key: aedat.DescriptionAttribute(
                attribute_type="int" if isinstance(value, int) else "string",
                value=value,
            )
            for key, value in leaf.items()
        }
        name = path.rstrip("/").rpartition("/")[2]
        return aedat.DescriptionNode(
            name=name, path=path, attributes=attributes, nodes=list(nodes)
        )

    root = "/mainloop/Recorder/outInfo/"
    size: dict[str, str | int] = {
        "sizeX": sensor.width,
        "sizeY": sensor.height,
        "source": "saccade",
    }
    track: dict[str, str | int] = {
        "compression": "LZ4",
        "originalOutputName": "events",
        "typeIdentifier": "EVTS",
    }
    return [node(root, {}, node(f"{root}0/", track, node(f"{root}0/info/", size)))]

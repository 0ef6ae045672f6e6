"""Files that the package `faery` decodes: AEDAT4 and Event Stream (.es).

`faery` reports neither an Event Stream file that was cut short (it ends at its
last whole event) nor a track of AEDAT4 other than the first with events.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saccade.model.events.errors import MalformedRecording, ReaderMissing
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events, as_events


def open_file(path: Path, sensor: Sensor | None) -> tuple[Sensor, Iterator[Events]]:
    """Open a file of AEDAT4 or Event Stream.

    Raises:
        MalformedRecording: `faery` cannot read it.
        ReaderMissing: `faery` is not installed.
    """
    try:
        import faery
    except ImportError as error:
        raise ReaderMissing("faery") from error
    with _faults_named(path):
        stream = faery.events_stream_from_file(path)
        found = Sensor(*stream.dimensions())
    return sensor or found, _chunks(path, iter(stream))


def _chunks(path: Path, packets: Iterator[Events]) -> Iterator[Events]:
    while True:
        with _faults_named(path):
            packet = next(packets, None)
        if packet is None:
            return
        yield as_events(packet)


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    """Turn whatever `faery` raises into MalformedRecording.

    Its faults are RuntimeErrors and bare Exceptions, and a file that its Rust
    code did not expect ends in a panic, which is a BaseException of no module.
    """
    try:
        yield
    except BaseException as error:
        panicked = type(error).__name__ == "PanicException"
        if panicked or isinstance(error, Exception):
            raise MalformedRecording(path, str(error)) from error
        raise

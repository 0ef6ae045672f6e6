"""Reader of Event Stream (.es) files, which the package `faery` decodes.

A file that was cut short ends at its last whole event, without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saccade.model.events.errors import MalformedRecording, ReaderMissing
from saccade.model.events.geometry import choose_sensor
from saccade.model.events.reading import Findings, Opened, ReadOptions
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events, as_events


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open an Event Stream file.

    Raises:
        MalformedRecording: `faery` cannot read it.
        ReaderMissing: `faery` is not installed.
    """
    try:
        import faery
    except ImportError as error:
        raise ReaderMissing("faery") from error
    with errors_translated(path):
        stream = faery.events_stream_from_file(path)
        known = Sensor(*stream.dimensions())
    findings = Findings()
    sensor, origin = choose_sensor(
        options, findings, lambda: _chunks(path, iter(stream)), (known, "header")
    )
    chunks = _chunks(path, iter(stream))
    return Opened(sensor, origin, chunks, findings=findings, format="Event Stream")


def _chunks(path: Path, packets: Iterator[Events]) -> Iterator[Events]:
    while True:
        with errors_translated(path):
            packet = next(packets, None)
        if packet is None:
            return
        yield as_events(packet)


@contextmanager
def errors_translated(path: Path) -> Iterator[None]:
    """Turn any error of `faery` into MalformedRecording.

    `faery` raises RuntimeError and bare Exception; a panic of its Rust code is a
    BaseException that belongs to no module.
    """
    try:
        yield
    except BaseException as error:
        panicked = type(error).__name__ == "PanicException"
        if panicked or isinstance(error, Exception):
            raise MalformedRecording(path, str(error)) from error
        raise

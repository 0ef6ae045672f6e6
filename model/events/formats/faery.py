"""Reader of AEDAT4 and Event Stream (.es) files, which the package `faery` decodes.

An Event Stream file that was cut short ends at its last whole event, without an
error. Of an AEDAT4 file's tracks only the first with events is read.
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
    """Open an AEDAT4 or Event Stream file.

    Raises:
        MalformedRecording: `faery` cannot read it.
        ReaderMissing: `faery` is not installed.
    """
    try:
        import faery
    except ImportError as error:
        raise ReaderMissing("faery") from error
    with _errors_translated(path):
        stream = faery.events_stream_from_file(path)
        known = Sensor(*stream.dimensions())
    findings = Findings()
    sensor, origin = choose_sensor(
        options, findings, lambda: _chunks(path, iter(stream)), (known, "header")
    )
    return Opened(sensor, origin, _chunks(path, iter(stream)), findings=findings)


def _chunks(path: Path, packets: Iterator[Events]) -> Iterator[Events]:
    while True:
        with _errors_translated(path):
            packet = next(packets, None)
        if packet is None:
            return
        yield as_events(packet)


@contextmanager
def _errors_translated(path: Path) -> Iterator[None]:
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

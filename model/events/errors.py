"""Errors about events, and about the files and payloads that hold events.

EventsError (a SaccadeError and a ValueError)
├── NotEvents              an array lacks an event's fields
├── UnsortedEvents         time runs backwards
├── EventOutsideSensor     a coordinate or polarity is out of range
├── SensorMismatch         two sensors differ, and no fit is allowed
├── MalformedPayload       bytes cannot be decoded
├── EventNotPackable       an event does not fit the packed record
├── ReaderMissing          the package that reads a format is not installed
└── RecordingError         carries the file's path
    ├── MalformedRecording     missing, empty, truncated or contradictory
    └── UnsupportedRecording   of a format without a reader
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saccade.model.events.sensor import Sensor


class SaccadeError(Exception):
    """The base of all that the SDK raises: about events, and about the server."""


class EventsError(SaccadeError, ValueError):
    """The base of every error about events."""


@dataclass(eq=False)
class NotEvents(EventsError):
    """An array lacks the fields of an event."""

    reason: str

    def __str__(self) -> str:
        return f"not an array of events: {self.reason}"


@dataclass(eq=False)
class UnsortedEvents(EventsError):
    """Time runs backwards at an event; `index` 0 follows the previous chunk."""

    index: int
    t_us: int
    previous_t_us: int

    def __str__(self) -> str:
        return (
            f"event {self.index} at {self.t_us} µs "
            f"follows one at {self.previous_t_us} µs"
        )


@dataclass(eq=False)
class EventOutsideSensor(EventsError):
    """An event's `field` is not in 0 … limit - 1."""

    index: int
    field: str
    value: int
    limit: int

    def __str__(self) -> str:
        return (
            f"event {self.index} has {self.field} = {self.value}, "
            f"outside 0..{self.limit - 1}"
        )


@dataclass(eq=False)
class SensorMismatch(EventsError):
    """Events come from one sensor where another sensor's are expected."""

    source: Sensor
    target: Sensor

    def __str__(self) -> str:
        return f"events of a {self.source} sensor where {self.target} is expected"


@dataclass(eq=False)
class MalformedPayload(EventsError):
    """Bytes cannot be decoded in their declared encoding."""

    encoding: str
    reason: str

    def __str__(self) -> str:
        return f"malformed {self.encoding} payload: {self.reason}"


@dataclass(eq=False)
class EventNotPackable(EventsError):
    """An event's `field` does not fit its bits of the packed record."""

    index: int
    field: str
    value: int
    limit: int

    def __str__(self) -> str:
        return (
            f"event {self.index} has {self.field} = {self.value}, "
            f"a packed record holds 0..{self.limit - 1}"
        )


@dataclass(eq=False)
class ReaderMissing(EventsError):
    """A format needs a package that is not installed; `extra` installs it."""

    package: str
    extra: str = "recordings"

    def __str__(self) -> str:
        return (
            f"reading this needs the package {self.package}: "
            f"install saccade[{self.extra}]"
        )


@dataclass(eq=False)
class RecordingError(EventsError):
    """A file cannot be read as a recording."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class MalformedRecording(RecordingError):
    """The file is missing, empty, truncated or contradicts itself."""


class UnsupportedRecording(RecordingError):
    """The file's format has no reader."""

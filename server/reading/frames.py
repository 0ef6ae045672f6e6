"""Requests to a reader process, and its answers: the bytes on its two pipes.

A request is a msgpack map behind its length. An answer is frames: `OPENED`, any number
of `EVENTS`, `DONE`; or, at any place, `FAILED`, which ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from struct import Struct
from typing import Any, Final

import msgpack
import numpy as np

from saccade.model.events.errors import (
    EventOutsideSensor,
    EventsError,
    MalformedRecording,
    ReaderMissing,
    SensorMismatch,
    UnsortedEvents,
    UnsupportedRecording,
)
from saccade.model.events.fit import Fit
from saccade.model.events.reading import ReadOptions
from saccade.model.events.sensor import Sensor
from saccade.model.events.tolerance import Invalid
from saccade.model.tokens import TimedTokens, Tokenization

LENGTH: Final = Struct("<I")
HEADER: Final = Struct("<BI")
"""A frame's kind, and the length of its content."""
OPENED, EVENTS, DONE, FAILED = range(4)
CHUNK_EVENTS: Final = 1 << 15
EVENT_BYTES: Final = 12
"""An event's timestamp and token."""
MOST_BYTES: Final = 1 << 20
"""The longest content of a frame; a chunk of events is about half as long."""


@dataclass(frozen=True)
class ReadRequest:
    """One recording to read, and how.

    Attributes:
        path: The file; its suffix chooses the reader.
        target: The model's tokens, with the sensor to which events are fitted.
        options: What the client says of the file.
        clock_bits: See `open_recording`.
        fit: What to do where the recording's geometry is another.
        invalid: What to do with an invalid event.
        sort_within_us: See `Tolerance`.
    """

    path: Path
    target: Tokenization
    options: ReadOptions = field(default_factory=ReadOptions)
    clock_bits: int | None = None
    fit: Fit = "reject"
    invalid: Invalid = "reject"
    sort_within_us: int = 0

    def encode(self) -> bytes:
        """Return the request as a reader process receives it."""
        options = vars(self.options) | {
            name: _to_plain(getattr(self.options, name)) for name in SENSORS
        }
        plain = {"path": str(self.path), "target": self.target.to_dict()}
        content: bytes = msgpack.packb(vars(self) | plain | {"options": options})
        return LENGTH.pack(len(content)) + content

    @classmethod
    def decode(cls, content: bytes) -> ReadRequest:
        """Return the request whose content `encode` wrote."""
        plain = msgpack.unpackb(content, use_list=False)
        options = plain["options"]
        options |= {name: _to_sensor(options[name]) for name in SENSORS}
        plain["path"] = Path(plain["path"])
        plain["target"] = Tokenization.from_dict(plain["target"])
        return cls(**plain | {"options": ReadOptions(**options)})


SENSORS: Final = ("sensor", "model_sensor")
"""The fields of `ReadOptions` that hold a geometry."""


def _to_plain(sensor: Sensor | None) -> list[int] | None:
    return None if sensor is None else sensor.to_list()


def _to_sensor(sides: tuple[int, ...] | None) -> Sensor | None:
    return None if sides is None else Sensor(*sides)


@dataclass(frozen=True)
class Facts:
    """What is known of a recording once it was read.

    Attributes:
        skipped: Invalid events that were left out.
        skipped_first: Why the first was, in words.
        warnings: What a user should know, in words.
    """

    skipped: int = 0
    skipped_first: str | None = None
    warnings: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the facts as a reader process sends them."""
        content: bytes
        content = msgpack.packb([self.skipped, self.skipped_first, self.warnings])
        return content

    @classmethod
    def decode(cls, content: bytes) -> Facts:
        """Return the facts that `encode` wrote.

        Raises:
            ValueError: They are none.
        """
        skipped, first, warnings = msgpack.unpackb(content)
        return cls(int(skipped), first and str(first), tuple(map(str, warnings)))


def tokens_to_bytes(chunk: TimedTokens) -> bytes:
    """Return the content of an `EVENTS` frame: all timestamps, then all tokens."""
    return chunk.t_us.astype("<i8").tobytes() + chunk.tokens.astype("<i4").tobytes()


def tokens_from_bytes(content: bytes, vocabulary: int) -> TimedTokens:
    """Return the events whose content `tokens_to_bytes` wrote.

    Args:
        content: The content.
        vocabulary: Tokens are below this.

    Raises:
        ValueError: It holds none, or a token that there is not.
    """
    count, rest = divmod(len(content), EVENT_BYTES)
    tokens = np.frombuffer(content, "<i4", count, 8 * count).astype(np.int32)
    if rest or (count and not 0 <= tokens.min() <= tokens.max() < vocabulary):
        raise ValueError(f"{len(content)} bytes hold no tokens below {vocabulary}")
    return TimedTokens(tokens, np.frombuffer(content, "<i8", count).astype(np.int64))


def frame(kind: int, content: bytes) -> bytes:
    """Return a frame."""
    return HEADER.pack(kind, len(content)) + content


def error_to_plain(error: EventsError) -> list[Any]:
    """Return an error as msgpack takes it; `error_from_plain` reads that.

    A file's path is left out: it is the server's, and the client knows its own.
    """
    values = [getattr(error, each.name) for each in fields(error)]  # type: ignore[arg-type]
    for place, value in enumerate(values):
        if isinstance(value, Sensor):
            values[place] = value.to_list()
        elif isinstance(value, Path):
            values[place] = ""
    return [type(error).__name__, values]


def error_from_plain(plain: list[Any]) -> EventsError:
    """Return the error that a reader process met.

    Raises:
        ValueError: It is no error that a reader may report.
    """
    name, values = plain
    if name not in _ERRORS:
        raise ValueError(f"a reader reports {name!r:.80}")
    return _ERRORS[name](*values)


def _mismatch(source: list[int], target: list[int]) -> SensorMismatch:
    return SensorMismatch(Sensor.from_list(source), Sensor.from_list(target))


_ERRORS: Final[dict[str, Callable[..., EventsError]]] = {
    "EventOutsideSensor": EventOutsideSensor,
    "MalformedRecording": lambda _, reason: MalformedRecording(Path(), reason),
    "ReaderMissing": ReaderMissing,
    "SensorMismatch": _mismatch,
    "UnsortedEvents": UnsortedEvents,
    "UnsupportedRecording": lambda _, reason: UnsupportedRecording(Path(), reason),
}
"""The errors that a reader process reports, by name; others are malformed files."""
REPORTED: Final = (
    EventOutsideSensor,
    MalformedRecording,
    ReaderMissing,
    SensorMismatch,
    UnsortedEvents,
    UnsupportedRecording,
)

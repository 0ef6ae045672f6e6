"""Errors of the wire, each with its code, close code and HTTP status."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

from saccade.model.events.sensor import Sensor

Fact: TypeAlias = bool | int | float | str
"""A value that an error quotes."""

QUOTED_CHARACTERS: Final = 80
MESSAGE_CHARACTERS: Final = 600


class ProtocolError(Exception):
    """A message or a session that the server refuses.

    ProtocolError
    ├── messages    MalformedMessage, InvalidField, UnexpectedMessage,
    │               UnsupportedProtocol, FrameTooLarge
    ├── frames      SequenceGap, FrameUndecodable, FrameOutsideSensor, FrameUnsorted
    ├── opening     UnknownModel, SensorRefused, UnknownSession, ModelChanged
    ├── parting     TakenOver, SessionIdle, SessionDeleted
    ├── quotas      TooManySessions, RateExceeded, CreditExceeded
    └── the server  SlotsExhausted, NotReady, EngineFailed, InternalError

    Attributes:
        code: Stable name on the wire and in HTTP's problem documents.
        close_code: Code that the websocket closes with, where the error is fatal.
        http_status: Status of a request that the error refuses.
    """

    code: ClassVar[str]
    close_code: ClassVar[int]
    http_status: ClassVar[int] = 422

    @property
    def fatal(self) -> bool:
        """Whether the session ends, with `close_code`.

        An error that is not fatal refuses one `events` frame and leaves the session
        as it was.
        """
        return True

    def facts(self) -> dict[str, Any]:
        """Return those of `seq`, `field`, `index` and `value` that the error has.

        What the client sent is cut to what an error may quote: see `quotable`.
        """
        found = {name: getattr(self, name, None) for name in _FACTS}
        found["field"] = found["field"] or None
        return {n: quotable(fact) for n, fact in found.items() if fact is not None}


_FACTS: Final = ("seq", "field", "index", "value")


@dataclass(eq=False)
class MalformedMessage(ProtocolError):
    """A message is not msgpack, not JSON, not a map, or of an unknown type."""

    code: ClassVar[str] = "malformed_message"
    close_code: ClassVar[int] = 1007
    reason: str

    def __str__(self) -> str:
        return f"cannot read the message: {self.reason}"


@dataclass(eq=False)
class InvalidField(ProtocolError):
    """A field is missing, unknown, of the wrong type or out of range.

    `seq` is given where the message was `events`; `size` is its `data`'s length.
    """

    code: ClassVar[str] = "invalid_field"
    close_code: ClassVar[int] = 1007
    field: str
    reason: str
    value: Any = None
    seq: int | None = None
    size: int = 0

    @property
    def fatal(self) -> bool:
        """Whether the session ends: not where one frame can be refused."""
        return self.seq is None

    def __str__(self) -> str:
        return f"field {clip(self.field)!r} {self.reason}"


@dataclass(eq=False)
class UnexpectedMessage(ProtocolError):
    """A message is out of order: events before open, or a second open."""

    code: ClassVar[str] = "unexpected_message"
    close_code: ClassVar[int] = 1002
    received: str
    expected: str

    def __str__(self) -> str:
        return f"{self.received!r} came out of order; {self.expected}"


@dataclass(eq=False)
class UnsupportedProtocol(ProtocolError):
    """The client speaks another version of the protocol."""

    code: ClassVar[str] = "unsupported_protocol"
    close_code: ClassVar[int] = 1002
    field: ClassVar[str] = "protocol"
    value: int
    spoken: int

    def __str__(self) -> str:
        spoken = f"this server speaks version {self.spoken}"
        return f"protocol {self.value} is not spoken here; {spoken}"


@dataclass(eq=False)
class FrameTooLarge(ProtocolError):
    """A message is longer than the session allows, or holds too many events."""

    code: ClassVar[str] = "frame_too_large"
    close_code: ClassVar[int] = 1009
    value: int
    limit: int
    unit: str = "bytes"
    seq: int | None = None

    def __str__(self) -> str:
        size = f"{self.value} {self.unit}"
        return f"a message of {size} exceeds the limit of {self.limit}; send less"


@dataclass(eq=False)
class SequenceGap(ProtocolError):
    """A frame's seq is not the last one plus one."""

    code: ClassVar[str] = "sequence_gap"
    close_code: ClassVar[int] = 1002
    seq: int
    expected: int

    def __str__(self) -> str:
        return (
            f"frame has seq {self.seq} where {self.expected} comes next; "
            "number frames 1, 2, 3, … without gaps"
        )


@dataclass(eq=False)
class FrameUndecodable(ProtocolError):
    """A frame's `data` does not decode."""

    code: ClassVar[str] = "malformed_events"
    close_code: ClassVar[int] = 1007
    field: ClassVar[str] = "data"
    encoding: str
    reason: str
    seq: int

    @property
    def fatal(self) -> bool:
        """Whether the session ends: a raw decoder's state is now unknown."""
        return self.encoding != "packed"

    def __str__(self) -> str:
        return f"frame {self.seq} is not {self.encoding}: {self.reason}"


@dataclass(eq=False)
class FrameOutsideSensor(ProtocolError):
    """An event lies outside the declared sensor."""

    code: ClassVar[str] = "event_outside_sensor"
    close_code: ClassVar[int] = 1007
    fatal: ClassVar[bool] = False
    seq: int
    index: int
    field: str
    value: int
    limit: int

    def __str__(self) -> str:
        return (
            f"frame {self.seq}, event {self.index}: {self.field} is {self.value} "
            f"and must be below {self.limit}; the frame is refused whole"
        )


@dataclass(eq=False)
class FrameUnsorted(ProtocolError):
    """Time runs backwards within a frame, or from one frame to the next."""

    code: ClassVar[str] = "unsorted_events"
    close_code: ClassVar[int] = 1007
    fatal: ClassVar[bool] = False
    field: ClassVar[str] = "t"
    seq: int
    index: int
    value: int
    previous_t_us: int

    def __str__(self) -> str:
        return (
            f"frame {self.seq}, event {self.index}: {self.value} µs follows "
            f"{self.previous_t_us} µs; sort events by time, or reset before a new "
            "recording; the frame is refused whole"
        )


@dataclass(eq=False)
class UnknownModel(ProtocolError):
    """The server serves no model of this name."""

    code: ClassVar[str] = "unknown_model"
    close_code: ClassVar[int] = 4404
    http_status: ClassVar[int] = 404
    field: ClassVar[str] = "model"
    value: str
    available: tuple[str, ...] = ()

    def __str__(self) -> str:
        served = ", ".join(self.available) or "none"
        return f"no model is named {clip(self.value)!r}; served here: {served}"


@dataclass(eq=False)
class SensorRefused(ProtocolError):
    """The sensor is not the model's, and `fit` does not allow that."""

    code: ClassVar[str] = "sensor_mismatch"
    close_code: ClassVar[int] = 4409
    field: ClassVar[str] = "sensor"
    source: Sensor
    target: Sensor

    @property
    def value(self) -> str:
        """The sensor that the client declared."""
        return _sensor_text(self.source)

    def __str__(self) -> str:
        return (
            f"the sensor is {self.value} and the model's is "
            f"{_sensor_text(self.target)}; open with fit 'scale' or 'crop', or send "
            "events of the model's sensor"
        )


@dataclass(eq=False)
class UnknownSession(ProtocolError):
    """No session has this token: it never had, or it ended, or its time ran out."""

    code: ClassVar[str] = "unknown_session"
    close_code: ClassVar[int] = 4404
    http_status: ClassVar[int] = 404
    field: ClassVar[str] = "resume"

    def __str__(self) -> str:
        return (
            "no session can be resumed with this token: it has ended or was away "
            "for too long; open a new one"
        )


@dataclass(eq=False)
class ModelChanged(ProtocolError):
    """The session was begun with other weights than are served now."""

    code: ClassVar[str] = "model_changed"
    close_code: ClassVar[int] = 4409
    field: ClassVar[str] = "resume"
    model: str
    value: str
    served: str

    def __str__(self) -> str:
        return (
            f"the session was begun with version {clip(self.value)} of {self.model!r}, "
            f"and this server has {clip(self.served)}; open a new one"
        )


@dataclass(eq=False)
class TakenOver(ProtocolError):
    """Another connection resumed this session."""

    code: ClassVar[str] = "taken_over"
    close_code: ClassVar[int] = 4410

    def __str__(self) -> str:
        return "another connection has resumed this session; it goes on there"


@dataclass(eq=False)
class SessionIdle(ProtocolError):
    """The client sent nothing for as long as a silent connection may stay."""

    code: ClassVar[str] = "session_idle"
    close_code: ClassVar[int] = 4408
    value: float

    def __str__(self) -> str:
        return (
            f"nothing came for {self.value:g} s; the session is put away, and its "
            "token, if it has one, goes on with it"
        )


@dataclass(eq=False)
class SessionDeleted(ProtocolError):
    """A holder of the session's key deleted the session."""

    code: ClassVar[str] = "session_deleted"
    close_code: ClassVar[int] = 4404

    def __str__(self) -> str:
        return "the session was deleted by somebody who holds its key; open a new one"


@dataclass(eq=False)
class TooManySessions(ProtocolError):
    """The key has as many sessions as one key may have."""

    code: ClassVar[str] = "too_many_sessions"
    close_code: ClassVar[int] = 4429
    http_status: ClassVar[int] = 429
    value: int

    def __str__(self) -> str:
        return (
            f"this key has its {self.value} sessions already; close one, or try again "
            "later"
        )


@dataclass(eq=False)
class RateExceeded(ProtocolError):
    """Far more came in than the key may send in a second."""

    code: ClassVar[str] = "rate_exceeded"
    close_code: ClassVar[int] = 4429
    http_status: ClassVar[int] = 429
    retry_after_s: float

    def __str__(self) -> str:
        return (
            "this key sends more than it may, on all its connections together; try "
            f"again in {self.retry_after_s:.1f} s"
        )


@dataclass(eq=False)
class CreditExceeded(ProtocolError):
    """More is under way than the session's credit, and one frame beyond it, allow."""

    code: ClassVar[str] = "credit_exceeded"
    close_code: ClassVar[int] = 4413
    value: int
    limit: int
    unit: str = "events"

    def __str__(self) -> str:
        return (
            f"{self.value} {self.unit} are under way where {self.limit} may be; wait "
            "for answers before sending more"
        )


@dataclass(eq=False)
class SlotsExhausted(ProtocolError):
    """Every slot is lent."""

    code: ClassVar[str] = "slots_exhausted"
    close_code: ClassVar[int] = 1013
    http_status: ClassVar[int] = 503
    slots: int

    def __str__(self) -> str:
        return f"all {self.slots} sessions are taken; try again later"


@dataclass(eq=False)
class NotReady(ProtocolError):
    """The server is starting or stopping."""

    code: ClassVar[str] = "not_ready"
    close_code: ClassVar[int] = 1013
    http_status: ClassVar[int] = 503
    reason: str = "the server is not ready"

    def __str__(self) -> str:
        return f"{self.reason}; try again later"


@dataclass(eq=False)
class EngineFailed(ProtocolError):
    """The device thread died under this session."""

    code: ClassVar[str] = "engine_failed"
    close_code: ClassVar[int] = 1011
    http_status: ClassVar[int] = 500

    def __str__(self) -> str:
        return "the engine failed; this session is lost, open another"


@dataclass(eq=False)
class InternalError(ProtocolError):
    """A fault of the server's; its details stay in the server's log."""

    code: ClassVar[str] = "internal_error"
    close_code: ClassVar[int] = 1011
    http_status: ClassVar[int] = 500

    def __str__(self) -> str:
        return "the server failed; this session is lost, open another"


def quotable(value: Any) -> Fact | None:
    """Shrink any parsed value to one that an error can quote."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else clip(str(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return clip(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, (list, dict)):
        return f"{kind_of(value)} of {len(value)}"
    return kind_of(value)


_KINDS: Final = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    bytes: "binary",
    list: "an array",
    dict: "a map",
}


def kind_of(value: Any) -> str:
    """Return the name of a parsed value's type, as msgpack and JSON have it."""
    return _KINDS.get(type(value), "an extension type")


def clip(text: str, characters: int = QUOTED_CHARACTERS) -> str:
    """Cut a text, and make it valid UTF-8: JSON lets lone surrogates through."""
    short = text if len(text) <= characters else text[: characters - 1] + "…"
    return short.encode("utf-8", "backslashreplace").decode("utf-8")


def _sensor_text(sensor: Sensor) -> str:
    """Write a sensor's sides, and its polarities where they are not two."""
    return str(sensor) if sensor.polarities == 2 else f"{sensor} of one polarity"

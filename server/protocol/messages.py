"""The messages of the wire: one dataclass each, in the order of their use.

None is changed once it is made. Those of which thousands are made in a second are not
frozen all the same: making one would take four times as long.

A field's type, range and default are declared here and nowhere else. `docs/protocol.md`
says what each message means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from saccade.model.events.fit import Fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.tolerance import Invalid
from saccade.server.protocol.errors import (
    MESSAGE_CHARACTERS,
    Fact,
    ProtocolError,
    clip,
)
from saccade.server.protocol.fields import (
    FACT,
    FINITE,
    GoesWith,
    Omitted,
    array,
    integer,
    number,
    text,
)

PROTOCOL_VERSION: Final = 1
LARGEST_INTEGER: Final = 2**53
"""The largest that JavaScript holds exactly; the bound on ids, seqs and counts."""
LARGEST_TIME_US: Final = 2**62
LARGEST_CLASSES: Final = 65536
LAGS_MS: Final = (1, 2**16)
"""The least and the largest lag that a session may ask for, ms."""
CLOCK_BITS: Final = (16, 48)
"""The shortest and the longest clock that wraps, in bits of µs."""

Encoding: TypeAlias = Literal["packed", "evt2", "evt21", "evt21-legacy", "evt3"]
Every: TypeAlias = Literal["tick", "events", "ms", "change", "flush"]
Window: TypeAlias = Literal["session", "half_life"]
WhenFull: TypeAlias = Literal["block", "drop-oldest"]
Results: TypeAlias = Literal["all", "latest"]

Count: TypeAlias = Annotated[int, integer(0, LARGEST_INTEGER)]
Seq: TypeAlias = Annotated[int, integer(1, LARGEST_INTEGER)]
TimeUs: TypeAlias = Annotated[int, integer(0, 2 * LARGEST_TIME_US)]
Name: TypeAlias = Annotated[str, text(200)]
Text: TypeAlias = Annotated[str, text(4096)]
Labels: TypeAlias = Annotated[list[str], array(text(4096), 1, LARGEST_CLASSES)]
Logits: TypeAlias = Annotated[list[float], array(FINITE, 1, LARGEST_CLASSES)]
Confidence: TypeAlias = Annotated[float, number(0.0, 1.0)]


@dataclass(frozen=True, slots=True)
class Report:
    """Report policy: which ticks send a `Result`."""

    every: Every = "tick"
    n: Omitted[
        Annotated[int | None, integer(1, 2**31), GoesWith("every", ("events", "ms"))]
    ] = None


@dataclass(frozen=True, slots=True)
class ReadoutWindow:
    """What the scores average over: the session, or an exponential half-life."""

    window: Window = "session"
    half_life_ms: Omitted[
        Annotated[float | None, number(1e-3, 1e12), GoesWith("window", ("half_life",))]
    ] = None


@dataclass(frozen=True, slots=True)
class Open:
    """Start a session, or resume the one of the token `resume`."""

    type: ClassVar[str] = "open"
    protocol: Annotated[int, integer(PROTOCOL_VERSION, PROTOCOL_VERSION)] = field(
        default=PROTOCOL_VERSION, kw_only=True
    )
    model: Name
    sensor: Omitted[Sensor | None] = None
    fit: Fit = "reject"
    encoding: Encoding = "packed"
    report: Report = Report()
    readout: ReadoutWindow = ReadoutWindow()
    clock_bits: Omitted[Annotated[int | None, integer(*CLOCK_BITS)]] = None
    when_full: Omitted[WhenFull] = "block"
    results: Omitted[Results] = "all"
    max_lag_ms: Omitted[Annotated[int | None, integer(*LAGS_MS)]] = None
    invalid: Omitted[Invalid] = "reject"
    resume: Omitted[Name | None] = None


@dataclass(slots=True)
class EventsFrame:
    """A chunk of events, in the encoding that `Open` declared."""

    type: ClassVar[str] = "events"
    seq: Seq
    t_base_us: Annotated[int, integer(0, LARGEST_TIME_US)] = field(
        default=0, kw_only=True
    )
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Flush:
    """Ask for the scores of exactly the events sent so far."""

    type: ClassVar[str] = "flush"
    id: Count


@dataclass(frozen=True, slots=True)
class Reset:
    """Return the session to its state after `Open`; frame numbers go on."""

    type: ClassVar[str] = "reset"
    id: Count


@dataclass(frozen=True, slots=True)
class Close:
    """End the session; the server answers `Closed` with the final scores."""

    type: ClassVar[str] = "close"


ClientMessage: TypeAlias = Open | EventsFrame | Flush | Reset | Close


@dataclass(frozen=True, slots=True)
class Opened:
    """The session's model and limits, and the token that resumes the session.

    `results` counts what a session that is resumed has reported since `open`.
    """

    type: ClassVar[str] = "opened"
    session: Name
    model: Name
    model_hash: Name
    labels: Labels
    sensor: Sensor
    tick_events: Count
    window_events: Count
    window_bytes: Count
    max_frame_bytes: Count
    resume: Name | None = None
    resume_ttl_ms: Count = 0
    resumed: bool = False
    seq: Count = 0
    results: Omitted[Count] = 0
    replica: Omitted[Name | None] = None


@dataclass(slots=True)
class Result:
    """The scores after a tick; `ticks` and `events` count since open or reset.

    `dropped` is None where the client's policy drops no events, here and below.
    `superseded` counts the earlier results that this one replaced unsent.
    """

    type: ClassVar[str] = "result"
    seq: Count
    ticks: Count
    events: Count
    t_us: TimeUs
    logits: Logits
    label: Text
    confidence: Confidence
    dropped: Omitted[Count | None] = None
    superseded: Omitted[Count] = 0


@dataclass(slots=True)
class ResultBatch:
    """Consecutive results of one session by columns: one object for all of them.

    Iterating yields each `Result`; they differ in what the columns hold.
    """

    seq: int
    tick_events: int
    ticks: list[int]
    t_us: list[int]
    logits: list[list[float]]
    labels: list[str]
    confidence: list[float]
    dropped: int | None = None

    def __len__(self) -> int:
        return len(self.ticks)

    def __iter__(self) -> Iterator[Result]:
        columns = (self.ticks, self.t_us, self.logits, self.labels, self.confidence)
        for ticks, t_us, logits, label, confidence in zip(*columns, strict=True):
            counts = self.seq, ticks, ticks * self.tick_events
            yield Result(*counts, t_us, logits, label, confidence, self.dropped)

    def part(self, begin: int, end: int, seq: int, dropped: int | None) -> ResultBatch:
        """Return some of the results, with another `seq` and `dropped`."""
        return ResultBatch(
            seq,
            self.tick_events,
            self.ticks[begin:end],
            self.t_us[begin:end],
            self.logits[begin:end],
            self.labels[begin:end],
            self.confidence[begin:end],
            dropped,
        )


@dataclass(slots=True)
class Ack:
    """The newest frame that is consumed, with cumulative counts since open.

    `lag_ms` and `window_events` are None where the session has no `max_lag_ms`.
    `skipped` is None where invalid events refuse their frames, here and below.
    `resume` is the token of a session that was opened without one, once it has one.
    """

    type: ClassVar[str] = "ack"
    seq: Count
    events: Count
    bytes: Count
    durable_seq: Count = 0
    dropped: Omitted[Count | None] = None
    lag_ms: Omitted[Count | None] = None
    window_events: Omitted[Count | None] = None
    skipped: Omitted[Count | None] = None
    resume: Omitted[Name | None] = None


@dataclass(frozen=True, slots=True)
class Flushed:
    """The scores at a flush; None before the first tick."""

    type: ClassVar[str] = "flushed"
    id: Count
    seq: Count
    ticks: Count
    events: Count
    pending: Count
    t_us: TimeUs | None = None
    logits: Logits | None = None
    label: Text | None = None
    confidence: Confidence | None = None
    dropped: Omitted[Count | None] = None
    skipped: Omitted[Count | None] = None


@dataclass(frozen=True, slots=True)
class WasReset:
    """The reset with this id is done."""

    type: ClassVar[str] = "reset"
    id: Count


@dataclass(frozen=True, slots=True)
class Closed:
    """The final scores, with the fields of `Flushed`; the last message of a session."""

    type: ClassVar[str] = "closed"
    seq: Count
    ticks: Count
    events: Count
    pending: Count
    t_us: TimeUs | None = None
    logits: Logits | None = None
    label: Text | None = None
    confidence: Confidence | None = None
    dropped: Omitted[Count | None] = None
    skipped: Omitted[Count | None] = None


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """The server refused something; `fatal` says that the session ends."""

    type: ClassVar[str] = "error"
    code: Name
    message: Text
    fatal: bool
    seq: Omitted[Count | None] = None
    field: Omitted[Text | None] = None
    index: Omitted[Count | None] = None
    value: Omitted[Annotated[Fact | None, FACT]] = None


def error_message(error: ProtocolError) -> ErrorMessage:
    """Return the message that reports an error to the client."""
    return ErrorMessage(
        error.code, clip(str(error), MESSAGE_CHARACTERS), error.fatal, **error.facts()
    )


@dataclass(frozen=True, slots=True)
class GoAway:
    """The session ends here soon; the client reconnects after the given time.

    `cause` is `drain` where the server stops and `rebalance` where another server has
    more room; None of an earlier server's.
    """

    type: ClassVar[str] = "goaway"
    reason: Text
    reconnect_after_ms: Count
    cause: Omitted[Name | None] = None


ServerMessage: TypeAlias = (
    Opened | Result | Ack | Flushed | WasReset | Closed | ErrorMessage | GoAway
)

"""The messages: one frozen dataclass each, in the order a session uses them.

`docs/protocol.md` says what each means on the wire; these are the same facts as
Python values. Defaults are written here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from saccade.model.events.sensor import Sensor

PROTOCOL_VERSION: Final = 1

Encoding: TypeAlias = Literal["packed", "evt2", "evt3"]
FitPolicy: TypeAlias = Literal["reject", "scale", "crop"]
Every: TypeAlias = Literal["tick", "events", "ms", "change", "flush"]
Window: TypeAlias = Literal["session", "half_life"]
WhenFull: TypeAlias = Literal["block", "drop-oldest"]
Results: TypeAlias = Literal["all", "latest"]
Fact: TypeAlias = bool | int | float | str
"""A value that an error quotes."""


@dataclass(frozen=True, slots=True)
class Report:
    """How often the client wants to hear: `n` goes with `events` and `ms` only."""

    every: Every = "tick"
    n: int | None = None


@dataclass(frozen=True, slots=True)
class ReadoutWindow:
    """What the scores average over: the session, or an exponential half-life."""

    window: Window = "session"
    half_life_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """Start a session; the first message, once.

    `sensor` is the geometry of the events to come: None is the model's own.
    `clock_bits` says that packed timestamps wrap after 2^clock_bits µs. `when_full` is
    what becomes of events that come faster than they are scored, and `results` what
    becomes of results that come faster than they are read.
    `resume` is the token of a session to go on with; what else `open` says must
    then be what it said at first.
    """

    model: str
    protocol: int = PROTOCOL_VERSION
    sensor: Sensor | None = None
    fit: FitPolicy = "reject"
    encoding: Encoding = "packed"
    report: Report = Report()
    readout: ReadoutWindow = ReadoutWindow()
    clock_bits: int | None = None
    when_full: WhenFull = "block"
    results: Results = "all"
    resume: str | None = None


@dataclass(frozen=True, slots=True)
class EventsFrame:
    """A chunk of events, in the encoding that `open` declared.

    `t_base_us` is added to each packed record's offset; evt2 and evt3 carry
    their own time, and it must be 0 there.
    """

    seq: int
    data: bytes
    t_base_us: int = 0


@dataclass(frozen=True, slots=True)
class Flush:
    """Ask for the scores of exactly the events sent so far."""

    id: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Forget everything seen so far, timestamps too; the session goes on as new."""

    id: int


@dataclass(frozen=True, slots=True)
class Close:
    """End the session; the server answers `Closed` with the final scores."""


ClientMessage: TypeAlias = Open | EventsFrame | Flush | Reset | Close


@dataclass(frozen=True, slots=True)
class Opened:
    """The session exists; these are its model and its limits.

    `resume` is the token to come back with, for `resume_ttl_ms` after a
    connection was lost; None where nothing is kept. `seq` is the newest frame that
    the session knows: a client that came back goes on with the next.
    """

    session: str
    model: str
    model_hash: str
    labels: list[str]
    sensor: Sensor
    tick_events: int
    window_events: int
    window_bytes: int
    max_frame_bytes: int
    resume: str | None = None
    resume_ttl_ms: int = 0
    resumed: bool = False
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """The scores after a tick; `ticks` and `events` count since open or reset.

    `dropped` counts the events up to there that are in no score, since they were
    dropped to make room; None where the client's policy drops none.
    """

    seq: int
    ticks: int
    events: int
    t_us: int
    logits: list[float]
    label: str
    confidence: float
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything up to here is consumed; the counts are cumulative since open.

    Everything up to `durable_seq` survives the server's end: never send it again.
    `dropped` events were dropped, among them perhaps some that are not consumed yet.
    """

    seq: int
    events: int
    bytes: int
    durable_seq: int = 0
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class Flushed:
    """The scores at a flush; None before the first tick.

    `pending` events wait in the open tick and are in no score yet.
    """

    id: int
    seq: int
    ticks: int
    events: int
    pending: int
    t_us: int | None = None
    logits: list[float] | None = None
    label: str | None = None
    confidence: float | None = None
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class WasReset:
    """The reset with this id is done."""

    id: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The final scores, as `Flushed`; the last message of a session."""

    seq: int
    ticks: int
    events: int
    pending: int
    t_us: int | None = None
    logits: list[float] | None = None
    label: str | None = None
    confidence: float | None = None
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """Something was refused; `fatal` says that this session ends with it."""

    code: str
    message: str
    fatal: bool
    seq: int | None = None
    field: str | None = None
    index: int | None = None
    value: Fact | None = None


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server is about to leave; come back after this long."""

    reason: str
    reconnect_after_ms: int


ServerMessage: TypeAlias = (
    Opened | Result | Ack | Flushed | WasReset | Closed | ErrorMessage | GoAway
)

"""The messages to a watcher: a session's events, thinned, and its newest scores.

A watcher sends nothing. The messages have their own table: some share their names with
those of a session, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, get_args

from saccade.model.events.fit import Fit
from saccade.model.events.sensor import Sensor
from saccade.server.protocol.codec import Wire, write_message
from saccade.server.protocol.fields import Omitted, Record, integer
from saccade.server.protocol.messages import (
    LARGEST_TIME_US,
    Confidence,
    Count,
    Labels,
    Logits,
    Name,
    Text,
    TimeUs,
)

Reason: TypeAlias = Literal["closed", "away"]
Form: TypeAlias = Literal["msgpack", "json"]


@dataclass(frozen=True, slots=True)
class Watching:
    """The session that is watched; the first message.

    `sensor` is the client's, in whose pixels the events are; `fit` says how they come
    to the model's.
    """

    type: ClassVar[str] = "watching"
    session: Name
    model: Name
    model_hash: Name
    labels: Labels
    sensor: Sensor
    model_sensor: Sensor
    fit: Fit
    tick_events: Count
    max_events_per_s: Count


@dataclass(frozen=True, slots=True)
class WatchedEvents:
    """Some of the events that the session took, as packed records.

    `of` counts the events that these stand for. `missed` counts those for which there
    was no room since the watching began.
    """

    type: ClassVar[str] = "events"
    t_base_us: Annotated[int, integer(-LARGEST_TIME_US, 2 * LARGEST_TIME_US)]
    data: bytes
    of: Count
    missed: Omitted[Count] = 0


@dataclass(frozen=True, slots=True)
class WatchedResult:
    """The session's newest scores, whatever its own reports."""

    type: ClassVar[str] = "result"
    ticks: Count
    events: Count
    t_us: TimeUs
    logits: Logits
    label: Text
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class WatchedReset:
    """The session begins anew: time, counts and scores."""

    type: ClassVar[str] = "reset"


@dataclass(frozen=True, slots=True)
class WatchEnded:
    """The last message: the session is closed, or has no client here any more."""

    type: ClassVar[str] = "ended"
    reason: Reason


WatchMessage: TypeAlias = (
    Watching | WatchedEvents | WatchedResult | WatchedReset | WatchEnded
)

WATCH_RECORDS: Final[dict[str, Record[Any]]] = {
    message.type: Record(message) for message in get_args(WatchMessage)
}


def encode_watched(message: WatchMessage, *, text: bool) -> Wire:
    """Write a message to a watcher, as msgpack or as JSON text."""
    raw = {"type": message.type, **WATCH_RECORDS[message.type].write(message)}
    return write_message(raw, text=text)

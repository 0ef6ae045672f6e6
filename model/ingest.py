"""One stream's events, from what a camera sent to tokens of the model (numpy only).

    unwrap the clock → check sensor and order → fit to the model's sensor → tokens

Under `reject` a frame is taken whole or refused whole: a refused one changes nothing.
Under `skip` its invalid events are left out, and counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from saccade.model.events.clock import unwrap_sorted
from saccade.model.events.encodings.packed import Records, unpack_records
from saccade.model.events.errors import SensorMismatch
from saccade.model.events.fit import Fit, fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.tolerance import (
    START,
    ClockPosition,
    Invalid,
    check_clock,
    keep_valid,
)
from saccade.model.events.types import Events, check_inside
from saccade.model.tokens import TimedTokens, Tokenization


@dataclass(frozen=True)
class IngestConfig:
    """What a stream's events are, and what the model takes.

    Attributes:
        source: The sensor that the events come from.
        tokenization: The model's tokens, with the model's sensor.
        policy: How events of `source` are fitted to that sensor.
        clock_bits: The camera's timestamps wrap after 2^clock_bits µs; None where
            they do not.
        invalid: What to do with events outside the source or out of order.

    Raises:
        SensorMismatch: The policy does not allow these sensors, or the source has
            polarities that the model's sensor lacks.
    """

    source: Sensor
    tokenization: Tokenization
    policy: Fit = "reject"
    clock_bits: int | None = None
    invalid: Invalid = "reject"

    def __post_init__(self) -> None:
        source, target = self.source, self.tokenization.sensor
        sides = (source.width, source.height) == (target.width, target.height)
        refused = self.policy == "reject" and not sides
        if refused or source.polarities > target.polarities:
            raise SensorMismatch(source, target)


class IngestState(NamedTuple):
    """All that the taking of the next frame depends on.

    Attributes:
        at: Where the stream's time is.
        skipped: Events that were left out since the stream began.
    """

    at: ClockPosition = START
    skipped: int = 0


class Ingest(ABC):
    """Turns one stream's frames into tokens."""

    @property
    @abstractmethod
    def state(self) -> IngestState:
        """Where the stream is."""

    @property
    @abstractmethod
    def skipped(self) -> int:
        """Events that were left out since the stream began."""

    @abstractmethod
    def resume(self, state: IngestState) -> None:
        """Continue the stream that has come so far; a new state begins anew."""

    @abstractmethod
    def take_records(self, records: Records, t_base_us: int) -> TimedTokens:
        """Take the next frame as packed records, shape (n,).

        Args:
            records: The records, as they came.
            t_base_us: Added to each record's offset, µs.

        Returns:
            Tokens and timestamps of the events that the fit keeps, in order.

        Raises:
            MalformedPayload: The base would overflow int64.
            EventOutsideSensor: An event lies outside the source, and is not skipped.
            UnsortedEvents: Time runs backwards in the frame, or since the last, and
                that is not skipped.
        """

    @abstractmethod
    def take_events(self, events: Events) -> TimedTokens:
        """Take the next frame as events, shape (n,); raises as `take_records`.

        The array may be changed.
        """


class NumpyIngest(Ingest):
    """Turns one stream's frames into tokens, by array operations."""

    def __init__(self, config: IngestConfig) -> None:
        self._config = config
        self._state = IngestState()

    @property
    def state(self) -> IngestState:
        """Where the stream is."""
        return self._state

    @property
    def skipped(self) -> int:
        """Events that were left out since the stream began."""
        return self._state.skipped

    def resume(self, state: IngestState) -> None:
        """Continue the stream that has come so far; a new state begins anew."""
        self._state = state

    def take_records(self, records: Records, t_base_us: int) -> TimedTokens:
        """Take the next frame as packed records; see `Ingest`."""
        return self.take_events(unpack_records(records, t_base_us))

    def take_events(self, events: Events) -> TimedTokens:
        """Take the next frame as events; see `Ingest`."""
        config, tokenization = self._config, self._config.tokenization
        at, skipped = self._state
        if config.clock_bits is not None:
            events["t"] = unwrap_sorted(events["t"], config.clock_bits, at.last_us)
        if config.invalid == "skip":
            kept, at = keep_valid(events, config.source, at)
            skipped += len(events) - len(kept)
            events = kept
        else:
            check_inside(events, config.source)
            at = check_clock(events, at)
        self._state = IngestState(at, skipped)
        return tokenization.timed(
            fit(events, config.source, tokenization.sensor, config.policy)
        )

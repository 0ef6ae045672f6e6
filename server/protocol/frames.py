"""Decoding, checking and fitting of `events` frames, for one session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, get_args

import numpy as np

from saccade.model.events.clock import unwrap_sorted
from saccade.model.events.encodings.evt import (
    DecoderState,
    Evt2Decoder,
    Evt3Decoder,
    EvtDecoder,
)
from saccade.model.events.encodings.packed import unpack
from saccade.model.events.errors import (
    EventOutsideSensor,
    EventsError,
    MalformedPayload,
    ReaderMissing,
    SensorMismatch,
    UnsortedEvents,
)
from saccade.model.events.fit import Fit, fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events, check
from saccade.server.protocol.errors import (
    FrameOutsideSensor,
    FrameUndecodable,
    FrameUnsorted,
    InvalidField,
    ProtocolError,
    SensorRefused,
)
from saccade.server.protocol.messages import Encoding, EventsFrame

_DECODERS: Final[dict[Encoding, Callable[[], EvtDecoder] | None]] = {
    "packed": None,
    "evt2": Evt2Decoder,
    "evt3": Evt3Decoder,
}
"""The decoder of each encoding, where one lives as long as the session."""
assert set(_DECODERS) == {*get_args(Encoding)}


class ReaderState(NamedTuple):
    """All that the reading of the next frame depends on.

    Attributes:
        last_t_us: The newest event's timestamp, None before the first.
        decoder: The state of a raw decoder; empty for packed records.
    """

    last_t_us: int | None = None
    decoder: DecoderState = ()


class FrameReader:
    """Turns one session's frames into events of the model's sensor, in time order.

    `decode` and `admit` are two calls, since a frame that is refused is accounted for
    by the number of events that it holds.

    Args:
        encoding: What `data` holds.
        source: The sensor that the client declared.
        target: The model's sensor.
        policy: How events of `source` are fitted to `target`.
        clock_bits: Timestamps of packed records wrap after 2^clock_bits µs; None
            where they do not.

    Raises:
        SensorRefused: The policy does not allow these sensors.
        InvalidField: No decoder of this encoding is installed.
    """

    def __init__(
        self,
        encoding: Encoding,
        source: Sensor,
        target: Sensor,
        policy: Fit,
        clock_bits: int | None = None,
    ) -> None:
        self._encoding = encoding
        self._source = source
        self._target = target
        self._policy = policy
        self._clock_bits = clock_bits
        try:
            self.reset()
        except ReaderMissing:
            raise InvalidField("encoding", "is not served here", encoding) from None
        if source.polarities > target.polarities:
            raise SensorRefused(source, target)
        try:
            self._fit(np.empty(0, EVENT_DTYPE))
        except SensorMismatch:
            raise SensorRefused(source, target) from None

    def reset(self) -> None:
        """Forget the time and the decoder's state."""
        new_decoder = _DECODERS[self._encoding]
        self._last_t_us: int | None = None
        self._decoder = new_decoder() if new_decoder else None

    def export_state(self) -> ReaderState:
        """Return what another reader needs to go on with this session."""
        decoder = self._decoder.export_state() if self._decoder else ()
        return ReaderState(self._last_t_us, decoder)

    def import_state(self, state: ReaderState) -> None:
        """Go on from another reader's state; for a new reader only."""
        self._last_t_us = state.last_t_us
        if self._decoder:
            self._decoder.import_state(state.decoder)

    def decode(self, frame: EventsFrame) -> Events:
        """Return a frame's events as they came.

        Raises:
            FrameUndecodable: The data does not decode.
            InvalidField: A raw frame has a time base. Fatal, since the decoder would
                miss the frame's words.
        """
        if self._decoder and frame.t_base_us:
            reason = "must be 0: a raw encoding carries its own time"
            raise InvalidField("t_base_us", reason, frame.t_base_us)
        try:
            if self._decoder:
                return self._decoder.decode(frame.data)
            return unpack(frame.data, frame.t_base_us)
        except MalformedPayload as error:
            raise to_wire_error(error, frame.seq) from None

    def admit(self, events: Events, seq: int) -> Events:
        """Return the events of the next frame, fitted to the model's sensor.

        Raises:
            FrameOutsideSensor: An event lies outside the declared sensor.
            FrameUnsorted: Time runs backwards in the frame, or since the last.
        """
        if self._clock_bits is not None:
            events["t"] = unwrap_sorted(events["t"], self._clock_bits, self._last_t_us)
        try:
            check(events, self._source, self._last_t_us)
        except EventsError as error:
            raise to_wire_error(error, seq) from None
        fitted = self._fit(events)
        if len(events):
            self._last_t_us = int(events["t"][-1])
        return fitted

    def _fit(self, events: Events) -> Events:
        return fit(events, self._source, self._target, self._policy)


def to_wire_error(error: EventsError, seq: int) -> ProtocolError:
    """Return the wire's error for a mistake in the events of frame `seq`."""
    match error:
        case MalformedPayload():
            return FrameUndecodable(error.encoding, error.reason, seq)
        case EventOutsideSensor():
            where = (error.index, error.field, error.value, error.limit)
            return FrameOutsideSensor(seq, *where)
        case UnsortedEvents():
            return FrameUnsorted(seq, error.index, error.t_us, error.previous_t_us)
        case _:
            raise error

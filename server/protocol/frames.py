"""One session's frames to events of the model's sensor, in order of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

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
from saccade.model.events.fit import fit
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
from saccade.server.protocol.messages import Encoding, EventsFrame, FitPolicy

Decode: TypeAlias = Callable[[EventsFrame], Events]


class ReaderMemory(NamedTuple):
    """All that the reading of the next frame depends on.

    Attributes:
        last_t_us: The newest event's timestamp, None before the first.
        decoder: What a raw decoder carries over; empty for packed records.
    """

    last_t_us: int | None = None
    decoder: DecoderState = ()


class FrameReader:
    """Decodes, checks and fits frames, and remembers where time stands.

    Decoding and admitting are two calls, since a frame that is refused must be
    accounted for by the number of events that it holds.

    Args:
        encoding: What `data` holds.
        source: The sensor that the client declared.
        target: The model's sensor.
        policy: How one is fitted to the other.
        clock_bits: Timestamps of packed records wrap after 2^clock_bits µs; None
            where they do not.

    Raises:
        SensorRefused: The policy does not allow these sensors.
        InvalidField: What decodes this encoding is not installed.
    """

    def __init__(
        self,
        encoding: Encoding,
        source: Sensor,
        target: Sensor,
        policy: FitPolicy,
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
        self._last_t_us: int | None = None
        self._decoder = _RAW[self._encoding]() if self._encoding in _RAW else None
        self._decode = _raw(self._decoder) if self._decoder else _packed

    def memory(self) -> ReaderMemory:
        """Return what another reader needs to go on with this session."""
        decoder = self._decoder.export_state() if self._decoder else ()
        return ReaderMemory(self._last_t_us, decoder)

    def recall(self, memory: ReaderMemory) -> None:
        """Go on with the session whose memory this is; for a new reader only."""
        self._last_t_us = memory.last_t_us
        if self._decoder:
            self._decoder.import_state(memory.decoder)

    def decode(self, frame: EventsFrame) -> Events:
        """Return a frame's events as they came.

        Raises:
            FrameUndecodable: The data is not what the encoding says.
            InvalidField: A raw frame has a time base. Fatal: its words, and
                what they do to the decoder, would be missing.
        """
        try:
            return self._decode(frame)
        except MalformedPayload as error:
            raise refusal(error, frame.seq) from None

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
            raise refusal(error, seq) from None
        fitted = self._fit(events)
        if len(events):
            self._last_t_us = int(events["t"][-1])
        return fitted

    def _fit(self, events: Events) -> Events:
        return fit(events, self._source, self._target, self._policy)


def refusal(error: EventsError, seq: int) -> ProtocolError:
    """Turn what is wrong with events into what the client is told.

    The only place where errors of `model.events` become errors of the wire.
    """
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


def _packed(frame: EventsFrame) -> Events:
    return unpack(frame.data, frame.t_base_us)


def _raw(decoder: EvtDecoder) -> Decode:
    def decode(frame: EventsFrame) -> Events:
        if frame.t_base_us:
            reason = "must be 0: a raw encoding carries its own time"
            raise InvalidField("t_base_us", reason, frame.t_base_us)
        return decoder.decode(frame.data)

    return decode


_RAW: Final[dict[Encoding, Callable[[], EvtDecoder]]] = {
    "evt2": Evt2Decoder,
    "evt3": Evt3Decoder,
}

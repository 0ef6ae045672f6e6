"""Decoding of `events` frames and their way to tokens, for one session."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, get_args

import numpy.typing as npt

from saccade.model.events.encodings.evt import (
    DecoderState,
    Evt2Decoder,
    Evt3Decoder,
    EvtDecoder,
)
from saccade.model.events.encodings.evt21 import Evt21Decoder
from saccade.model.events.encodings.packed import records
from saccade.model.events.errors import (
    EventOutsideSensor,
    EventsError,
    MalformedPayload,
    ReaderMissing,
    SensorMismatch,
    UnsortedEvents,
)
from saccade.model.ingest import IngestConfig, IngestState
from saccade.model.tokens import TimedTokens, Tokenization
from saccade.server.protocol.errors import (
    FrameOutsideSensor,
    FrameTooLarge,
    FrameUndecodable,
    FrameUnsorted,
    InvalidField,
    ProtocolError,
    SensorRefused,
)
from saccade.server.protocol.ingest import NewIngest
from saccade.server.protocol.messages import Encoding, EventsFrame, Open

_DECODERS: Final[dict[Encoding, Callable[[], EvtDecoder] | None]] = {
    "packed": None,
    "evt2": Evt2Decoder,
    "evt21": Evt21Decoder,
    "evt21-legacy": partial(Evt21Decoder, is_legacy=True),
    "evt3": Evt3Decoder,
}
"""The decoder of each encoding, where one lives as long as the session."""
assert set(_DECODERS) == {*get_args(Encoding)}

HEADER: Final = (
    "the data begins with a RAW file's header; leave out the lines that begin with '%'"
)
HEADER_BYTES: Final = 24
MOST_EVENTS_A_BYTE: Final = 6
"""Events that a byte of a raw encoding holds at most: EVT3's two bytes hold twelve."""

Payload: TypeAlias = npt.NDArray[Any]
"""A frame's events, one item each: records as they came, or what a decoder made."""


class ReaderState(NamedTuple):
    """All that the reading of the next frame depends on.

    Attributes:
        ingest: Where the stream's time is, and how many events were left out.
        decoder: The state of a raw decoder; empty for packed records.
    """

    ingest: IngestState = IngestState()
    decoder: DecoderState = ()


class FrameReader:
    """Turns one session's frames into tokens of its model, in time order.

    `decode` and `admit` are two calls, since a frame that is refused is accounted for
    by the number of events that it holds.

    Args:
        opening: The client's `open`: encoding, sensor, fit and clock.
        tokenization: The model's tokens, with the model's sensor.
        new_ingest: Returns what turns the frames into tokens.

    Raises:
        InvalidField: No decoder of this encoding is installed.
        SensorRefused: The client's sensor does not fit the model's.
    """

    def __init__(
        self,
        opening: Open,
        tokenization: Tokenization,
        new_ingest: NewIngest,
    ) -> None:
        self._new_decoder = _DECODERS[opening.encoding]
        try:
            self._decoder = self._new_decoder() if self._new_decoder else None
        except ReaderMissing:
            reason = "is not served here"
            raise InvalidField("encoding", reason, opening.encoding) from None
        source = opening.sensor or tokenization.sensor
        try:
            config = IngestConfig(
                source,
                tokenization,
                opening.fit,
                opening.clock_bits,
                opening.invalid,
            )
        except SensorMismatch as error:
            raise SensorRefused(error.source, error.target) from None
        self._ingest = new_ingest(config)
        self._encoding = opening.encoding
        self._decoder_is_new = True

    @property
    def skipped(self) -> int:
        """Invalid events that were left out since open or reset."""
        return self._ingest.skipped

    def reset(self) -> None:
        """Forget the time and the decoder's state."""
        self._decoder = self._new_decoder() if self._new_decoder else None
        self._decoder_is_new = True
        self._ingest.resume(IngestState())

    def export_state(self) -> ReaderState:
        """Return what another reader needs to go on with this session."""
        decoder = self._decoder.export_state() if self._decoder else ()
        return ReaderState(self._ingest.state, decoder)

    def import_state(self, state: ReaderState) -> None:
        """Go on from another reader's state; for a new reader only."""
        self._ingest.resume(state.ingest)
        if self._decoder:
            self._decoder.import_state(state.decoder)
            self._decoder_is_new = False

    def decode(self, frame: EventsFrame, most: int) -> Payload:
        """Return a frame's events as they came, an item each.

        Args:
            frame: The next frame.
            most: How many events it may hold. Raw words are counted before they are
                decoded, since a frame of them may unfold to hundreds of megabytes.

        Raises:
            FrameTooLarge: A raw frame holds more. Fatal.
            FrameUndecodable: The data does not decode.
            InvalidField: A raw frame has a time base. Fatal, since the decoder would
                miss the frame's words.
        """
        if self._decoder and frame.t_base_us:
            reason = "must be 0: a raw encoding carries its own time"
            raise InvalidField("t_base_us", reason, frame.t_base_us)
        try:
            if self._decoder:
                if self._decoder_is_new and _begins_a_file(frame.data):
                    raise MalformedPayload(self._encoding, HEADER)
                self._decoder_is_new = self._decoder_is_new and not frame.data
                self._check_count(self._decoder, frame, most)
                return self._decoder.decode(frame.data)
            return records(frame.data)
        except MalformedPayload as error:
            raise to_wire_error(error, frame.seq) from None

    def _check_count(self, decoder: EvtDecoder, frame: EventsFrame, most: int) -> None:
        """Raise where a raw frame holds more events than it may."""
        if len(frame.data) * MOST_EVENTS_A_BYTE <= most:
            return
        count = decoder.count(frame.data)
        if count > most:
            raise FrameTooLarge(count, most, "events", frame.seq)

    def admit(self, payload: Payload, frame: EventsFrame) -> TimedTokens:
        """Return the tokens of the next frame, once decoded.

        Raises:
            FrameUndecodable: The frame's time base would overflow int64.
            FrameOutsideSensor: An event lies outside the declared sensor, and is not
                to be skipped.
            FrameUnsorted: Time runs backwards in the frame, or since the last, and
                that is not to be skipped.
        """
        try:
            if self._decoder:
                return self._ingest.take_events(payload)
            return self._ingest.take_records(payload, frame.t_base_us)
        except EventsError as error:
            raise to_wire_error(error, frame.seq) from None


def _begins_a_file(data: bytes | memoryview) -> bool:
    """Return whether raw data begins with the lines of a RAW file's header.

    A word may begin with the same byte, but not two dozen in a row hold text.
    """
    first = bytes(data[:HEADER_BYTES])
    text = all(byte in b"\r\n\t" or 0x20 <= byte < 0x7F for byte in first)
    return first.startswith(b"%") and len(first) == HEADER_BYTES and text


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

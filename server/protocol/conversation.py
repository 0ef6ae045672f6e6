"""The server's side of one session: a client's messages in, requests out.

No socket and no clock. The caller's loop:

    message = conversation.decode(data)
    for request in conversation.receive(message):   # raises where the session ends
        ...                                         # do it
    ack = conversation.ledger.settle(waiting)   # also whenever ticks are scored
    send(conversation.write(message))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple, TypeAlias

from saccade.model.events.encodings.packed import RECORD_BYTES
from saccade.model.tokens import TimedTokens, Tokenization
from saccade.server.protocol.codec import (
    Wire,
    decode_client,
    encode_results,
    encode_server,
)
from saccade.server.protocol.errors import (
    FrameTooLarge,
    InvalidField,
    ProtocolError,
    SequenceGap,
    UnexpectedMessage,
)
from saccade.server.protocol.frames import FrameReader, Payload, ReaderState
from saccade.server.protocol.ingest import NewIngest, fastest
from saccade.server.protocol.ledger import Counts, Ledger
from saccade.server.protocol.messages import (
    ClientMessage,
    Close,
    Encoding,
    ErrorMessage,
    EventsFrame,
    Flush,
    Open,
    Reset,
    ResultBatch,
    ServerMessage,
    error_message,
)
from saccade.server.protocol.scan import scan


@dataclass(slots=True)
class Feed:
    """A frame's tokens for the engine; fewer than its events after a crop.

    Attributes:
        chunk: The tokens.
        size: The bytes of `data` that the events came in.
        skipped: The frame's invalid events, which were left out.
    """

    chunk: TimedTokens
    size: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A message to send at once."""

    message: ErrorMessage


@dataclass(frozen=True, slots=True)
class Repeat:
    """A frame that a resumed session has taken before: acknowledge it again."""


Request: TypeAlias = Open | Feed | Flush | Reset | Close | Reply | Repeat
"""What the caller must do, in order.

`Open`: find the model, call `begin` or `resume`, and send `Opened`. `Flush`, `Reset`
and `Close`: do so, then send the answer.
"""


Tap: TypeAlias = Callable[[Payload, int, TimedTokens], None]
"""Receives a frame that was taken: its events, their time base and their tokens."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a session may have under way; `Opened` carries them.

    Raises:
        ValueError: One whole frame would not fit into the window.
    """

    max_frame_bytes: int = 1 << 20
    window_events: int = 1 << 19
    window_bytes: int = 1 << 22

    def __post_init__(self) -> None:
        if self.max_frame_bytes > min(
            RECORD_BYTES * self.window_events, self.window_bytes
        ):
            raise ValueError("the window is smaller than one frame")

    def exceeded_by(self, pending: Counts) -> bool:
        """Return whether more is under way than the window allows."""
        return pending.events > self.window_events or pending.bytes > self.window_bytes


class ConversationState(NamedTuple):
    """All that another conversation needs to go on with this session.

    Attributes:
        sent: The frames that were taken, whole or refused.
        acked: The frames that were acknowledged.
        kept: How many of the frames' events were for the engine.
        dropped: How many of those were dropped; None where the policy drops none.
        skipped: How many of the frames' events were invalid and left out; None where
            the client did not choose that.
        reader: The state of the frame reader.
    """

    sent: Counts = Counts()
    acked: Counts = Counts()
    kept: int = 0
    dropped: int | None = None
    skipped: int | None = None
    reader: ReaderState = ReaderState()


class Stage(Enum):
    """How far a conversation has come."""

    NEW = auto()
    OPENING = auto()
    OPEN = auto()
    ENDED = auto()


_EXPECTED: Final = {
    Stage.NEW: "a session begins with 'open'",
    Stage.OPENING: "wait for 'opened'",
    Stage.OPEN: "the session is open already",
    Stage.ENDED: "the session has ended; open another on a new connection",
}


class Conversation:
    """Checks the order of one session's messages, and accounts for its frames.

    Args:
        limits: What the session may have under way.
        new_ingest: The way from frames to tokens; the fastest where none is given.

    Attributes:
        tap: Receives each frame that is taken, as the session is watched.
    """

    def __init__(self, limits: Limits, new_ingest: NewIngest | None = None) -> None:
        self.limits = limits
        self._new_ingest = new_ingest or fastest()
        self.stage = Stage.NEW
        self.ledger = Ledger()
        self.tap: Tap | None = None
        self._text: bool | None = None
        self._open: Open | None = None
        self._reader: FrameReader | None = None
        self._resumed = False

    @property
    def encoding(self) -> Encoding:
        """What the session's frames hold."""
        return self._open.encoding if self._open else "packed"

    def decode(self, data: Wire) -> ClientMessage | ProtocolError:
        """Decode one websocket message, or return why it cannot be.

        The form of the first message, bytes or text, is that of the answers. Nothing
        else depends on when a message is decoded.
        """
        if self._text is None:
            self._text = isinstance(data, str)
        limit = self.limits.max_frame_bytes
        if self.stage is Stage.OPEN and isinstance(data, bytes) and len(data) <= limit:
            frame = scan(data)
            if frame is not None:
                return frame
        try:
            return decode_client(data, max_bytes=limit, encoding=self.encoding)
        except ProtocolError as error:
            return error

    def read(self, data: Wire) -> list[Request]:
        """Decode one websocket message and return what it requests; raises likewise."""
        return self.receive(self.decode(data))

    def receive(self, message: ClientMessage | ProtocolError) -> list[Request]:
        """Return what a decoded message requests, or one that could not be decoded.

        Raises:
            ProtocolError: The session ends: send the error, then close.
        """
        if isinstance(message, ProtocolError):
            return self._refuse_unread(message)
        try:
            return self._dispatch(message)
        except ProtocolError:
            self.stage = Stage.ENDED
            raise

    def begin(self, tokenization: Tokenization) -> None:
        """Accept the `Open`, for a model with these tokens and their sensor.

        Raises:
            SensorRefused: The client's sensor is another, and `fit` is `reject`.
            InvalidField: No decoder of the encoding is installed.
        """
        assert self.stage is Stage.OPENING
        with self._ending_on_error():
            self._reader = FrameReader(self._opening, tokenization, self._new_ingest)
        self.stage = Stage.OPEN

    def resume(self, tokenization: Tokenization, state: ConversationState) -> None:
        """Accept an `Open` that goes on with a session; raises as `begin`."""
        self.begin(tokenization)
        self._frames.import_state(state.reader)
        self.ledger = Ledger.resume(state.sent, state.acked, state.kept)
        self.ledger.dropped, self.ledger.skipped = state.dropped, state.skipped
        self._resumed = True

    def export_state(self) -> ConversationState:
        """Return what another conversation needs to go on from here."""
        ledger = self.ledger
        return ConversationState(
            sent=ledger.sent,
            acked=ledger.acked,
            kept=ledger.kept,
            dropped=ledger.dropped,
            skipped=ledger.skipped,
            reader=self._frames.export_state(),
        )

    @property
    def skipped(self) -> int | None:
        """Events left out since open or reset; None where they refuse their frames."""
        return None if self.ledger.skipped is None else self._frames.skipped

    def write(self, message: ServerMessage) -> Wire:
        """Encode an answer in the form that the client used to open."""
        return encode_server(message, text=bool(self._text))

    def write_results(self, batch: ResultBatch) -> list[Wire]:
        """Encode each result of a batch, likewise."""
        return encode_results(batch, text=bool(self._text))

    @property
    def _frames(self) -> FrameReader:
        assert self._reader is not None
        return self._reader

    @property
    def _opening(self) -> Open:
        assert self._open is not None
        return self._open

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        try:
            yield
        except ProtocolError:
            self.stage = Stage.ENDED
            raise

    def _expect(self, stage: Stage, received: str) -> None:
        if self.stage is not stage:
            raise UnexpectedMessage(received, _EXPECTED[self.stage])

    def _expect_seq(self, seq: int) -> None:
        expected = self.ledger.sent.seq + 1
        if seq != expected:
            raise SequenceGap(seq, expected)

    def _repeats(self, seq: int) -> bool:
        """Return whether a client that came back sends a frame again.

        In a session that was never resumed, a number that comes twice is a client's
        mistake: its events must not vanish unreported.
        """
        return self._resumed and seq <= self.ledger.sent.seq

    def _dispatch(self, message: ClientMessage) -> list[Request]:
        if isinstance(message, EventsFrame):
            self._expect(Stage.OPEN, message.type)
            return self._take(message)
        opens = isinstance(message, Open)
        self._expect(Stage.NEW if opens else Stage.OPEN, message.type)
        match message:
            case Open():
                _check_raw_fields(message)
                self._open = message
                self.ledger.dropped = 0 if message.when_full == "drop-oldest" else None
                self.ledger.skipped = 0 if message.invalid == "skip" else None
                self.stage = Stage.OPENING
            case Reset():
                self._frames.reset()
            case Close():
                self.stage = Stage.ENDED
        return [message]

    def _take(self, frame: EventsFrame) -> list[Request]:
        """Take a frame whole, or refuse it whole and stay as before."""
        if frame.seq != self.ledger.sent.seq + 1:
            if self._repeats(frame.seq):
                return [Repeat()]
            self._expect_seq(frame.seq)
        size, limits = len(frame.data), self.limits
        if size > limits.max_frame_bytes:
            raise FrameTooLarge(size, limits.max_frame_bytes, seq=frame.seq)
        count = size // RECORD_BYTES
        reader = self._frames
        before = reader.skipped
        try:
            payload = reader.decode(frame, limits.window_events)
            count = len(payload)
            chunk = reader.admit(payload, frame)
        except ProtocolError as error:
            if error.fatal:
                raise
            return self._refused(error, events=count, size=size)
        self.ledger.add(events=count, size=size, kept=len(chunk.tokens))
        skipped = reader.skipped - before
        if skipped:
            self.ledger.skip(skipped)
        if self.tap is not None:
            self.tap(payload, frame.t_base_us, chunk)
        return [Feed(chunk, size, skipped)]

    def _refuse_unread(self, error: ProtocolError) -> list[Request]:
        """Refuse a message that could not be decoded: one frame, or the session.

        Raises:
            ProtocolError: The session ends: send the error, then close.
        """
        with self._ending_on_error():
            if not isinstance(error, InvalidField) or error.seq is None:
                raise error
            self._expect(Stage.OPEN, "events")
            if self._repeats(error.seq):
                return [Repeat()]
            self._expect_seq(error.seq)
            if self._opening.encoding != "packed":
                raise dataclasses.replace(error, seq=None)
            events = error.size // RECORD_BYTES
            return self._refused(error, events=events, size=error.size)

    def _refused(
        self, error: ProtocolError, *, events: int, size: int
    ) -> list[Request]:
        self.ledger.add(events=events, size=size, kept=0)
        return [Reply(error_message(error))]


def _check_raw_fields(opening: Open) -> None:
    """Refuse a raw encoding without a sensor, or with a clock beside its own."""
    if opening.encoding == "packed":
        return
    if opening.sensor is None:
        raise InvalidField("sensor", f"is missing: {opening.encoding} needs it")
    if opening.clock_bits is not None:
        reason = f"is for packed records: {opening.encoding} has its own"
        raise InvalidField("clock_bits", reason, opening.clock_bits)

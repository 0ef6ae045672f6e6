"""What a conversation asks its caller to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple, TypeAlias

from saccade.model.events.encodings.packed import RECORD_BYTES
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events
from saccade.server.protocol.codec import (
    Wire,
    decode_client,
    encode_server,
    type_name,
)
from saccade.server.protocol.errors import (
    FrameTooLarge,
    InvalidField,
    ProtocolError,
    SequenceGap,
    UnexpectedMessage,
    error_message,
)
from saccade.server.protocol.frames import FrameReader, ReaderMemory
from saccade.server.protocol.ledger import Counts, Ledger
from saccade.server.protocol.messages import (
    Ack,
    ClientMessage,
    Close,
    ErrorMessage,
    EventsFrame,
    Flush,
    Open,
    Reset,
    ServerMessage,
    WhenFull,
)


@dataclass(frozen=True, slots=True)
class Feed:
    """Events for the engine: decoded, checked, fitted; perhaps none.

    `size` is the bytes of `data` that they came in.
    """

    events: Events
    size: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A message to send at once."""

    message: ErrorMessage


@dataclass(frozen=True, slots=True)
class Repeat:
    """A frame that a resumed session knows already: to be acknowledged again."""


Request: TypeAlias = Open | Feed | Flush | Reset | Close | Reply | Repeat
"""What the caller must do, in order. `Open` asks it to find the model, call
`begin` and send `Opened`; the others, once done, are answered by their messages."""


# >>> merged from server.protocol.conversation
# >>> """One session's conversation: what a client sent in, what is to be done out.
# >>>
# >>> Sans-IO, and no clock. The caller's loop:
# >>>
# >>>     for request in conversation.read(data):     # raises where the session ends
# >>>         ...                                     # do it
# >>>     ack = conversation.settle(waiting)          # and whenever ticks are done
# >>>     send(conversation.write(message))
# >>> """


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session may have under way; `opened` tells the client.

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
        """Tell whether more is under way than the window allows."""
        return pending.events > self.window_events or pending.bytes > self.window_bytes


class Memory(NamedTuple):
    """All that another conversation needs to go on with this session.

    Attributes:
        sent: The frames that were taken, whole or refused.
        acked: Those that were acknowledged.
        kept: How many of their events were taken in.
        dropped: How many of those were dropped; None where none ever is.
        reader: What the reading of the next frame depends on.
    """

    sent: Counts = Counts()
    acked: Counts = Counts()
    kept: int = 0
    dropped: int | None = None
    reader: ReaderMemory = ReaderMemory()


class Stage(Enum):
    """How far a conversation has come."""

    NEW = auto()
    OPENING = auto()
    OPEN = auto()
    ENDED = auto()


_FIRST_DROPPED: Final[dict[WhenFull, int | None]] = {"block": None, "drop-oldest": 0}
"""How many events are dropped at first; None where none ever is."""

_EXPECTED = {
    Stage.NEW: "a session begins with 'open'",
    Stage.OPENING: "wait for 'opened'",
    Stage.OPEN: "the session is open already",
    Stage.ENDED: "the session has ended; open another on a new connection",
}


class Conversation:
    """The server's side of one session."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.stage = Stage.NEW
        self.ledger = Ledger()
        self._text: bool | None = None
        self._open: Open | None = None
        self._reader: FrameReader | None = None
        self._resumed = False

    def read(self, data: Wire) -> list[Request]:
        """Take one websocket message; the first one's form is that of the answers.

        Raises:
            ProtocolError: The session ends: send the error, then close.
        """
        if self._text is None:
            self._text = isinstance(data, str)
        encoding = self._open.encoding if self._open else "packed"
        limit = self.limits.max_frame_bytes
        try:
            message = decode_client(data, max_bytes=limit, encoding=encoding)
        except ProtocolError as error:
            return self.refuse(error)
        return self.receive(message)

    def receive(self, message: ClientMessage) -> list[Request]:
        """Take one message.

        Raises:
            ProtocolError: The session ends: send the error, then close.
        """
        with self._ending_on_error():
            return self._dispatch(message)

    def refuse(self, error: ProtocolError) -> list[Request]:
        """Take a message that the codec could not read.

        Raises:
            ProtocolError: The session ends: send the error, then close.
        """
        with self._ending_on_error():
            if not isinstance(error, InvalidField) or error.seq is None:
                raise error
            self._expect(Stage.OPEN, "events")
            if self._knows(error.seq):
                return [Repeat()]
            self._expect_seq(error.seq)
            if self._opened.encoding != "packed":
                raise dataclasses.replace(error, seq=None)
            events = error.size // RECORD_BYTES
            return self._refused(error, events=events, size=error.size)

    def begin(self, sensor: Sensor) -> None:
        """Agree to the `Open`, for a model with this sensor.

        Raises:
            SensorRefused: The client's sensor is another, and `fit` is `reject`.
        """
        assert self.stage is Stage.OPENING
        opened = self._opened
        with self._ending_on_error():
            self._reader = FrameReader(
                opened.encoding,
                opened.sensor or sensor,
                sensor,
                opened.fit,
                opened.clock_bits,
            )
        self.stage = Stage.OPEN

    def resume(self, sensor: Sensor, memory: Memory) -> None:
        """Agree to an `Open` that goes on with a session; as `begin` otherwise."""
        self.begin(sensor)
        self._frames.recall(memory.reader)
        self.ledger = Ledger.resume(memory.sent, memory.acked, memory.kept)
        self.ledger.dropped = memory.dropped
        self._resumed = True

    def memory(self) -> Memory:
        """Return what another conversation needs to go on from here."""
        ledger = self.ledger
        return Memory(
            sent=ledger.sent,
            acked=ledger.acked,
            kept=ledger.kept,
            dropped=ledger.dropped,
            reader=self._frames.memory(),
        )

    def settle(self, waiting: int) -> Ack | None:
        """Acknowledge all but the newest `waiting` events; see `Ledger.settle`."""
        return self.ledger.settle(waiting)

    def write(self, message: ServerMessage) -> Wire:
        """Encode an answer in the form that the client used to open."""
        return encode_server(message, text=bool(self._text))

    @property
    def _frames(self) -> FrameReader:
        assert self._reader is not None
        return self._reader

    @property
    def _opened(self) -> Open:
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

    def _knows(self, seq: int) -> bool:
        """Tell whether a client that came back repeats a frame.

        Elsewhere a number that comes twice is a client's mistake, whose events
        must not vanish without a word.
        """
        return self._resumed and seq <= self.ledger.sent.seq

    def _dispatch(self, message: ClientMessage) -> list[Request]:
        opens = isinstance(message, Open)
        self._expect(Stage.NEW if opens else Stage.OPEN, type_name(message))
        match message:
            case Open():
                if message.encoding != "packed" and message.sensor is None:
                    raise InvalidField(
                        "sensor", f"is missing: {message.encoding} needs it"
                    )
                if message.encoding != "packed" and message.clock_bits is not None:
                    reason = f"is for packed records: {message.encoding} has its own"
                    raise InvalidField("clock_bits", reason, message.clock_bits)
                self._open = message
                self.ledger.dropped = _FIRST_DROPPED[message.when_full]
                self.stage = Stage.OPENING
            case EventsFrame():
                return self._take(message)
            case Reset():
                self._frames.reset()
            case Close():
                self.stage = Stage.ENDED
        return [message]

    def _take(self, frame: EventsFrame) -> list[Request]:
        """Take a frame whole, or refuse it whole and stay as before."""
        if self._knows(frame.seq):
            return [Repeat()]
        self._expect_seq(frame.seq)
        size = len(frame.data)
        if size > self.limits.max_frame_bytes:
            limit = self.limits.max_frame_bytes
            raise FrameTooLarge(size, limit, seq=frame.seq)
        count = size // RECORD_BYTES
        try:
            events = self._frames.decode(frame)
            count = self._checked_count(len(events), frame.seq)
            kept = self._frames.admit(events, frame.seq)
        except ProtocolError as error:
            if error.fatal:
                raise
            return self._refused(error, events=count, size=size)
        self.ledger.add(events=count, size=size, kept=len(kept))
        return [Feed(kept, size)]

    def _checked_count(self, events: int, seq: int) -> int:
        """Refuse the raw frame that unfolds into more than a window."""
        limit = self.limits.window_events
        if events > limit:
            raise FrameTooLarge(events, limit, "events", seq)
        return events

    def _refused(
        self, error: ProtocolError, *, events: int, size: int
    ) -> list[Request]:
        self.ledger.add(events=events, size=size, kept=0)
        return [Reply(error_message(error))]

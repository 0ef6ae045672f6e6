"""A snapshot: a session at one moment, as a value and as bytes for a store.

All parts are of one moment, after frame `seq`: whole ticks of the frames up to it are
in the engine's row, and the rest of their events waits beside the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack
import numpy as np
import numpy.typing as npt

from saccade.model.events.tolerance import ClockPosition
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.ingest import IngestState
from saccade.model.tokens import TimedTokens, TokenChunk
from saccade.server.engine.outputs import RowState
from saccade.server.protocol.codec import (
    decode_client,
    decode_server,
    encode_client,
    encode_server,
)
from saccade.server.protocol.conversation import ConversationState
from saccade.server.protocol.frames import ReaderState
from saccade.server.protocol.ledger import Counts
from saccade.server.protocol.messages import ErrorMessage, Flushed, Open, WasReset
from saccade.server.protocol.reporting import Position, Tick
from saccade.server.sessions.session_input import Gap, InputState

FORMAT: Final = 3
READABLE: Final = (2, 3)
"""Formats that can be read: in 2, events that wait are not tokens yet."""

NO_CONVERSATION: Final = ConversationState()
NO_INPUT: Final = InputState()


class UnreadableSnapshot(Exception):
    """The bytes are not a snapshot of this format."""


Reply: TypeAlias = ErrorMessage | Flushed | WasReset
"""A reply that is sent again to a client that comes back."""


class PendingFlush(NamedTuple):
    """A flush that is answered once so many ticks are scored."""

    id: int
    seq: int
    ticks: int
    pending: int
    dropped: int | None = None
    skipped: int | None = None


class HostState(NamedTuple):
    """The host's half of a snapshot, taken between two frames."""

    conversation: ConversationState
    input: InputState


@dataclass(frozen=True)
class Snapshot:
    """A session between two frames.

    Attributes:
        session: The session's name.
        opening: The client's `open` message.
        model_hash: Content hash of the weights that the row belongs to.
        holder: Holder of the API key that opened it; empty where there are no keys.
        conversation: What the client has sent and has had acknowledged.
        input: What the engine was given, and what waits for it.
        row: The engine's part; None where no event ever came.
        position: The reporter's state.
        last: The newest tick.
        reported: The newest tick that was reported to the client.
        results: How many results were reported to the client since `open`.
        flushes: Flushes without an answer.
        replies: The newest replies, which may not have reached the client.
    """

    session: str
    opening: Open
    model_hash: str
    holder: str = ""
    conversation: ConversationState = NO_CONVERSATION
    input: InputState = NO_INPUT
    row: RowState | None = None
    position: Position = None
    last: Tick | None = None
    reported: Tick | None = None
    results: int = 0
    flushes: tuple[PendingFlush, ...] = ()
    replies: tuple[Reply, ...] = ()

    @property
    def seq(self) -> int:
        """The newest frame that is in the snapshot."""
        return self.conversation.sent.seq


OnSnapshot: TypeAlias = Callable[[Snapshot | None], None]
"""Receives a snapshot, or None where the session ended or was reset before."""


def encode(snapshot: Snapshot) -> bytes:
    """Write a snapshot as bytes."""
    conversation, row = snapshot.conversation, snapshot.row
    input = snapshot.input
    data: bytes = msgpack.packb(
        {
            "format": FORMAT,
            "session": snapshot.session,
            "opening": encode_client(snapshot.opening),
            "model_hash": snapshot.model_hash,
            "holder": snapshot.holder,
            "sent": conversation.sent,
            "acked": conversation.acked,
            "kept": conversation.kept,
            "dropped": conversation.dropped,
            "skipped": conversation.skipped,
            "last_t_us": conversation.reader.ingest.at.last_us,
            "jumped_from_us": conversation.reader.ingest.at.jumped_from_us,
            "left_out": conversation.reader.ingest.skipped,
            "decoder": conversation.reader.decoder,
            "newest": [_array(column) for column in input.newest],
            "submitted": input.submitted,
            "line": [_array(column) for column in input.queued],
            "line_bytes": input.queued_bytes,
            "gaps": (input.behind, input.ahead),
            "leaves": None if row is None else [_array(leaf) for leaf in row.leaves],
            "waiting": None if row is None else [_array(part) for part in row.waiting],
            "position": snapshot.position,
            "last": _tick(snapshot.last),
            "reported": _tick(snapshot.reported),
            "results": snapshot.results,
            "flushes": snapshot.flushes,
            "replies": [encode_server(m, text=False) for m in snapshot.replies],
        }
    )
    return data


def decode(data: bytes) -> Snapshot:
    """Read a snapshot.

    Raises:
        UnreadableSnapshot: The bytes are not a snapshot of this format.
    """
    try:
        raw = msgpack.unpackb(data)
        if raw["format"] not in READABLE:
            raise UnreadableSnapshot(f"format {raw['format']} is not one of {READABLE}")
        return _read(raw)
    except UnreadableSnapshot:
        raise
    except Exception as error:
        raise UnreadableSnapshot(f"{type(error).__name__}: {error}") from error


def _read(raw: dict[str, Any]) -> Snapshot:
    # Earlier servers know of no false steps, and leave nothing out.
    at = ClockPosition(raw["last_t_us"], raw.get("jumped_from_us"))
    ingest = IngestState(at, raw.get("left_out", 0))
    reader = ReaderState(ingest, tuple(raw["decoder"]))
    sent, acked = Counts(*raw["sent"]), Counts(*raw["acked"])
    opening = decode_client(raw["opening"])
    assert isinstance(opening, Open)
    row = None
    if raw["leaves"] is not None:
        leaves = tuple(_unarray(leaf) for leaf in raw["leaves"])
        row = RowState(leaves, TokenChunk(*(_unarray(p) for p in raw["waiting"])))
    return Snapshot(
        session=raw["session"],
        opening=opening,
        model_hash=raw["model_hash"],
        holder=raw["holder"],
        conversation=ConversationState(
            sent, acked, raw["kept"], raw["dropped"], raw.get("skipped"), reader
        ),
        input=_input(raw),
        row=row,
        position=raw["position"],
        last=None if raw["last"] is None else Tick(*raw["last"]),
        reported=None if raw["reported"] is None else Tick(*raw["reported"]),
        results=raw.get("results", 0),
        flushes=tuple(PendingFlush(*flush) for flush in raw["flushes"]),
        replies=tuple(_reply(reply) for reply in raw["replies"]),
    )


def _input(raw: dict[str, Any]) -> InputState:
    behind, ahead = raw["gaps"]
    return InputState(
        newest=_timed(raw["newest"]),
        submitted=raw["submitted"],
        queued=_timed(raw["line"]),
        queued_bytes=raw["line_bytes"],
        behind=behind,
        ahead=tuple(Gap(*gap) for gap in ahead),
    )


def _timed(raw: Any) -> TimedTokens | Events:
    if isinstance(raw, bytes):
        return np.frombuffer(raw, EVENT_DTYPE)
    return TimedTokens(*(_unarray(column) for column in raw))


def _reply(data: bytes) -> Reply:
    message = decode_server(data)
    assert isinstance(message, Reply)
    return message


def _tick(tick: Tick | None) -> tuple[int, int, int, list[float]] | None:
    if tick is None:
        return None
    logits = np.asarray(tick.logits, np.float64).tolist()
    return tick.ticks, tick.events, tick.t_us, logits


def _array(array: npt.NDArray[Any]) -> tuple[str, tuple[int, ...], memoryview]:
    flat = np.ascontiguousarray(array).reshape(-1)
    return array.dtype.str, array.shape, flat.view(np.uint8).data


def _unarray(raw: Any) -> npt.NDArray[Any]:
    kind, shape, data = raw
    return np.frombuffer(data, np.dtype(kind)).reshape(shape)

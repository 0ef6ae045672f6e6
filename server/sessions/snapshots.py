"""A session at one moment, as a value, and as bytes for a store.

Every part is of the same moment: after the frame `seq`, of whose events `ticks` whole
ticks are in the row, and the rest waits beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack
import numpy as np
import numpy.typing as npt

from saccade.model.events.types import EVENT_DTYPE
from saccade.model.tokens import TokenChunk
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
from saccade.server.sessions.session_input import Gap, IntakeMemory

FORMAT: Final = 2
NOTHING_SENT: Final = ConversationState()
NOTHING_TAKEN: Final = IntakeMemory()


class UnreadableSnapshot(Exception):
    """The bytes are no snapshot, or one of another format."""


Reply: TypeAlias = ErrorMessage | Flushed | WasReset
"""An answer that is said again to a client that came back."""


class FlushMark(NamedTuple):
    """A flush that is answered once so many ticks are scored."""

    id: int
    seq: int
    ticks: int
    pending: int
    dropped: int | None = None


class Cut(NamedTuple):
    """The host's half of a snapshot, taken between two frames."""

    conversation: ConversationState
    intake: IntakeMemory


@dataclass(frozen=True)
class Snapshot:
    """A session between two frames.

    Attributes:
        session: Its name.
        opening: How the client opened it.
        model_hash: The weights that its row belongs to.
        holder: Whose key it was opened with; empty where there are none.
        conversation: What the client has sent and heard.
        intake: What waits for the engine, and what the engine was given.
        row: The engine's part; None where no event ever came.
        position: Where the reporter stands.
        last: The newest tick.
        reported: The newest tick that the client was told of.
        flushes: Flushes without an answer.
        replies: The newest answers, which may not have reached the client.
    """

    session: str
    opening: Open
    model_hash: str
    holder: str = ""
    conversation: ConversationState = NOTHING_SENT
    intake: IntakeMemory = NOTHING_TAKEN
    row: RowState | None = None
    position: Position = None
    last: Tick | None = None
    reported: Tick | None = None
    flushes: tuple[FlushMark, ...] = ()
    replies: tuple[Reply, ...] = ()

    @property
    def seq(self) -> int:
        """The newest frame that is in it."""
        return self.conversation.sent.seq


Taken: TypeAlias = Callable[[Snapshot | None], None]
"""Hears a snapshot, or None where the session ended or began anew before."""


def encode(snapshot: Snapshot) -> bytes:
    """Write a snapshot as bytes."""
    conversation, row = snapshot.conversation, snapshot.row
    intake = snapshot.intake
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
            "last_t_us": conversation.reader.last_t_us,
            "decoder": conversation.reader.decoder,
            "newest": intake.newest.tobytes(),
            "submitted": intake.submitted,
            "line": intake.line.tobytes(),
            "line_bytes": intake.line_bytes,
            "gaps": (intake.behind, intake.ahead),
            "leaves": None if row is None else [_array(leaf) for leaf in row.leaves],
            "waiting": None if row is None else [_array(part) for part in row.waiting],
            "position": snapshot.position,
            "last": _tick(snapshot.last),
            "reported": _tick(snapshot.reported),
            "flushes": snapshot.flushes,
            "replies": [encode_server(m, text=False) for m in snapshot.replies],
        }
    )
    return data


def decode(data: bytes) -> Snapshot:
    """Read a snapshot.

    Raises:
        UnreadableSnapshot: It is none, or of another format.
    """
    try:
        raw = msgpack.unpackb(data)
        if raw["format"] != FORMAT:
            raise UnreadableSnapshot(f"format {raw['format']} is not {FORMAT}")
        return _read(raw)
    except UnreadableSnapshot:
        raise
    except Exception as error:
        raise UnreadableSnapshot(f"{type(error).__name__}: {error}") from error


def _read(raw: dict[str, Any]) -> Snapshot:
    reader = ReaderState(raw["last_t_us"], tuple(raw["decoder"]))
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
            sent, acked, raw["kept"], raw["dropped"], reader
        ),
        intake=_intake(raw),
        row=row,
        position=raw["position"],
        last=None if raw["last"] is None else Tick(*raw["last"]),
        reported=None if raw["reported"] is None else Tick(*raw["reported"]),
        flushes=tuple(FlushMark(*mark) for mark in raw["flushes"]),
        replies=tuple(_reply(reply) for reply in raw["replies"]),
    )


def _intake(raw: dict[str, Any]) -> IntakeMemory:
    behind, ahead = raw["gaps"]
    return IntakeMemory(
        newest=np.frombuffer(raw["newest"], EVENT_DTYPE),
        submitted=raw["submitted"],
        line=np.frombuffer(raw["line"], EVENT_DTYPE),
        line_bytes=raw["line_bytes"],
        behind=behind,
        ahead=tuple(Gap(*gap) for gap in ahead),
    )


def _reply(data: bytes) -> Reply:
    message = decode_server(data)
    assert isinstance(message, Reply)
    return message


def _tick(tick: Tick | None) -> tuple[int, int, int, list[float]] | None:
    if tick is None:
        return None
    logits = np.asarray(tick.logits, np.float64).tolist()
    return tick.ticks, tick.events, tick.t_us, logits


def _array(array: npt.NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()


def _unarray(raw: Any) -> npt.NDArray[Any]:
    kind, shape, data = raw
    return np.frombuffer(data, np.dtype(kind)).reshape(shape)

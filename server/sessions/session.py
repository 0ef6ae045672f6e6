"""Who takes a session's messages to its client."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from saccade.model.events.types import Events
from saccade.server.engine.client import EngineClient
from saccade.server.engine.errors import EngineError
from saccade.server.engine.model_registry import ServedModel
from saccade.server.engine.outputs import RowState, TickScores
from saccade.server.protocol.conversation import Conversation
from saccade.server.protocol.errors import InternalError, ProtocolError
from saccade.server.protocol.messages import (
    ErrorMessage,
    Flush,
    Open,
    Opened,
    Reset,
    ServerMessage,
    WasReset,
)
from saccade.server.protocol.reporting import Reporter, Tick, closed, flushed, result
from saccade.server.sessions.pending_replies import PendingReplies
from saccade.server.sessions.session_input import ROOMS, SessionInput
from saccade.server.sessions.snapshots import (
    Cut,
    FlushMark,
    Reply,
    Snapshot,
    Taken,
)
from saccade.server.sessions.wire_errors import to_wire_error


class MessageSink(Protocol):
    """One client, as its session sees it."""

    def put(self, message: ServerMessage) -> None:
        """Take a message."""

    def fail(self, error: ProtocolError) -> None:
        """Take the error that ends the session here."""

    def progressed(self) -> None:
        """Learn that ticks were scored."""


# >>> merged from server.sessions.grant
# >>> """What a client is told when its session begins, and what it may come back with."""


class SessionHandle(NamedTuple):
    """What a client is given to come back with.

    Attributes:
        session: The session's name.
        token: What to say on coming back; None where nothing is kept.
        ttl_ms: For how long that is possible after a connection was lost.
        resumed: Whether the client has just come back.
        holder: Whose key the client showed; empty where there are none.
    """

    session: str
    token: str | None = None
    ttl_ms: int = 0
    resumed: bool = False
    holder: str = ""


def opened(
    grant: SessionHandle, model: ServedModel, conversation: Conversation
) -> Opened:
    """Write the message that begins a session, or goes on with one."""
    limits = conversation.limits
    return Opened(
        session=grant.session,
        model=model.name,
        model_hash=model.content_hash,
        labels=list(model.labels),
        sensor=model.sensor,
        tick_events=model.tick_events,
        window_events=limits.window_events,
        window_bytes=limits.window_bytes,
        max_frame_bytes=limits.max_frame_bytes,
        resume=grant.token,
        resume_ttl_ms=grant.ttl_ms,
        resumed=grant.resumed,
        seq=conversation.ledger.sent.seq,
    )


# >>> merged from server.sessions.session
# >>> """One session between its conversation and the engine: requests in, messages out.
# >>>
# >>> No socket, no clock, and nothing to await: the engine's scores come in by `scored`, and
# >>> a carrier takes the messages to the client.
# >>> """


class Session:
    """One client's stream, from `opened` to `closed`.

    Args:
        conversation: What the client has sent and what it is told.
        model: The model that scores it.
        opening: How the client wants it.
        carrier: Takes what the client is to hear.
    """

    def __init__(
        self,
        conversation: Conversation,
        model: ServedModel,
        opening: Open,
        carrier: MessageSink,
    ) -> None:
        self._conversation = conversation
        self.model = model
        self._carrier = carrier
        self._send = carrier.put
        self._half_life_ms = opening.readout.half_life_ms or float("inf")
        self._opening = opening
        self.grant = SessionHandle("")
        self._reporter = Reporter(opening.report)
        self._room = ROOMS[opening.when_full](conversation.limits)
        self._intake = SessionInput(model, self._room)
        self._answers = PendingReplies()
        self._awaited: list[Taken] = []
        self._last: Tick | None = None
        self._reported: Tick | None = None
        self.lost = False
        self.version = 0

    @property
    def drained(self) -> bool:
        """Whether every whole tick is scored."""
        return self._intake.drained

    @property
    def busy(self) -> bool:
        """Whether a tick will still be scored."""
        return not (self.drained or self.lost)

    @property
    def events_sent(self) -> int:
        """Events that have come since the session began."""
        return self._conversation.ledger.sent.events

    @property
    def congested(self) -> bool:
        """Whether more waits than the client was allowed to send.

        Where the oldest events are dropped, only flushes make so many wait.
        """
        ledger, limits = self._conversation.ledger, self._conversation.limits
        if ledger.dropped is not None:
            return self._intake.under_way > limits.window_events
        return limits.exceeded_by(ledger.pending)

    def begin(self, streams: EngineClient) -> None:
        """Take a slot; `welcome` tells the client.

        Raises:
            ProtocolError: The sensor does not fit, or the engine has no place.
        """
        self._conversation.begin(self.model.sensor)
        self._take_slot(streams, None)

    def resume(
        self, streams: EngineClient, snapshot: Snapshot, model: ServedModel
    ) -> None:
        """Take a slot and go on from a snapshot of this model; raises as `begin`."""
        self.model, self._intake = model, SessionInput(model, self._room)
        self._conversation.resume(self.model.sensor, snapshot.conversation)
        self._take_slot(streams, snapshot.row)
        self._opening = snapshot.opening
        self._reporter.resume(snapshot.position)
        self._last, self._reported = snapshot.last, snapshot.reported
        ticks = 0 if self._last is None else self._last.ticks
        self._intake.recall(snapshot.intake, ticks)
        self._answers.recall(snapshot.seq, snapshot.flushes, snapshot.replies)

    def welcome(self, grant: SessionHandle) -> None:
        """Tell the client of its session; if it came back, the newest answers too."""
        self.grant = grant
        self._send(opened(grant, self.model, self._conversation))
        for reply in self._answers.newest:
            self._send(reply)
        if self._reported is not None:
            self._send_result(self._reported)
        self._intake.pump()
        self.acknowledge()

    def _take_slot(self, streams: EngineClient, row: RowState | None) -> None:
        key, half_life_ms = self.model.key, self._half_life_ms
        try:
            self._intake.attach(streams.open(key, half_life_ms, self, row))
        except EngineError as error:
            raise to_wire_error(error) from None

    def snapshot(self, taken: Taken) -> None:
        """Take a snapshot after the newest frame; `taken` hears it once it is whole.

        The engine's half comes when all ticks that are in it have been told, and no
        other: at that moment reports, flushes and answers are of the same moment too.
        """
        cut = Cut(self._conversation.export_state(), self._intake.memory())
        self._awaited.append(taken)
        self._intake.stream.export(partial(self._complete, taken, cut))

    def _complete(self, taken: Taken, cut: Cut, row: RowState | None) -> None:
        self._awaited.remove(taken)
        ticks = self._intake.ticks_in(row, cut.intake.submitted)
        assert ticks == self._intake.ticks, "a row holds exactly the ticks told"
        flushes, replies = self._answers.up_to(cut.conversation.sent.seq)
        taken(
            Snapshot(
                session=self.grant.session,
                holder=self.grant.holder,
                opening=self._opening,
                model_hash=self.model.content_hash,
                conversation=cut.conversation,
                intake=cut.intake,
                row=row,
                position=self._reporter.position,
                last=self._last,
                reported=self._reported,
                flushes=flushes,
                replies=replies,
            )
        )

    def _give_up_snapshots(self) -> None:
        awaited, self._awaited = self._awaited, []
        for taken in awaited:
            taken(None)

    def survived(self, seq: int) -> None:
        """Tell the client that everything up to a frame is durable."""
        self._conversation.ledger.durable_seq = seq
        self.acknowledge()

    def feed(self, events: Events, size: int) -> int:
        """Take a frame's events; return how many were dropped to make room."""
        self.version += 1
        dropped = self._intake.feed(events, size)
        if dropped:
            self._conversation.ledger.drop(dropped)
        self.acknowledge()
        return dropped

    def flush(self, request: Flush) -> None:
        """Answer for exactly the events so far, now or once they are scored."""
        intake, seq = self._intake, self._conversation.ledger.sent.seq
        intake.commit()
        dropped = self._told(intake.dropped)
        self._answers.ask(
            FlushMark(request.id, seq, intake.whole_ticks, intake.pending, dropped)
        )
        self._answer_flushes()

    def reset(self, request: Reset) -> None:
        """Begin anew; every whole tick must be scored before."""
        assert self.drained
        self._intake.reset()
        self._reporter.reset()
        self._last = self._reported = None
        self._give_up_snapshots()
        self._reply(WasReset(request.id))

    def refuse(self, message: ErrorMessage) -> None:
        """Tell the client that a frame was refused."""
        self._reply(message)
        self.acknowledge()

    def repeat(self) -> None:
        """Acknowledge a frame that was known already."""
        self._send(self._conversation.ledger.ack())

    def _reply(self, message: Reply) -> None:
        self.version += 1
        self._answers.say(self._conversation.ledger.sent.seq, message)
        self._send(message)

    def close(self) -> None:
        """Tell the final scores; every whole tick must be scored before."""
        assert self.drained
        self._send(
            closed(
                self._last,
                self.model.labels,
                seq=self._conversation.ledger.acked.seq,
                pending=self._intake.pending,
                dropped=self._told(self._intake.dropped),
            )
        )

    def release(self) -> None:
        """Give the slot back, however the session ended."""
        self._lose()
        self._intake.close()

    def scored(self, scored: TickScores) -> None:
        """Take some ticks' scores and tell the client what it wants to hear."""
        if not np.isfinite(scored.logits).all():
            self._lose()
            self._carrier.fail(InternalError())
            return
        for logits, t_us in zip(scored.logits, scored.t_us.tolist(), strict=True):
            self._intake.scored()
            ticks = self._intake.ticks
            self._last = Tick(ticks, ticks * self.model.tick_events, t_us, logits)
            self.acknowledge()
            for tick in self._reporter.select([self._last]):
                self._reported = tick
                self._send_result(tick)
            self._answer_flushes()
        self.version += 1
        self._intake.pump()
        self._carrier.progressed()

    def failed(self, error: EngineError) -> None:
        """End the session: the engine lost it."""
        self._lose()
        self._carrier.fail(to_wire_error(error))

    def _lose(self) -> None:
        self.lost = True
        self._give_up_snapshots()

    def acknowledge(self) -> None:
        """Acknowledge what is scored; the open tick too, when it is next in line."""
        ack = self._conversation.settle(self._intake.waiting)
        if ack is not None:
            self._send(ack)

    def _send_result(self, tick: Tick) -> None:
        seq = self._conversation.ledger.acked.seq
        dropped = self._told(self._intake.dropped_behind)
        self._send(result(tick, self.model.labels, seq=seq, dropped=dropped))

    def _told(self, dropped: int) -> int | None:
        """Return what the client hears of dropped events: nothing, if none ever is."""
        return None if self._conversation.ledger.dropped is None else dropped

    def _answer_flushes(self) -> None:
        for mark in self._answers.due(self._intake.ticks):
            self._reply(
                flushed(
                    self._last,
                    self.model.labels,
                    id=mark.id,
                    seq=mark.seq,
                    pending=mark.pending,
                    dropped=mark.dropped,
                )
            )

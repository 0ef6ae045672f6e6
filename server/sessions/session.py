"""One session between its conversation and the engine: requests in, messages out.

No socket, no clock, and nothing to await: the engine's scores come in by `scored`, and
a `MessageSink` takes the messages to the client.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from saccade.model.tokens import TimedTokens
from saccade.server.engine.client import EngineClient
from saccade.server.engine.errors import EngineError
from saccade.server.engine.model_registry import ServedModel
from saccade.server.engine.outputs import RowState, TickScores, columns_of
from saccade.server.protocol.conversation import Conversation
from saccade.server.protocol.errors import InternalError
from saccade.server.protocol.messages import (
    Ack,
    ErrorMessage,
    Flush,
    Open,
    Reset,
    ResultBatch,
    WasReset,
)
from saccade.server.protocol.reporting import (
    LeftOut,
    Reporter,
    Tick,
    closed,
    flushed,
    result,
)
from saccade.server.sessions.freshness import Freshness
from saccade.server.sessions.handle import MessageSink, SessionHandle, opened
from saccade.server.sessions.lead import Lead
from saccade.server.sessions.observer import SessionObserver, Unobserved
from saccade.server.sessions.pending_replies import PendingReplies
from saccade.server.sessions.session_input import QUEUE_LIMITS, SessionInput
from saccade.server.sessions.snapshots import (
    HostState,
    OnSnapshot,
    PendingFlush,
    Reply,
    Snapshot,
)
from saccade.server.sessions.wire_errors import to_wire_error


class Session:
    """One client's stream, from `opened` to `closed`; an engine's `OutputHandler`.

    Args:
        conversation: The protocol's state: what was sent and acknowledged.
        model: The model that scores it.
        opening: The client's `open` message.
        sink: Takes messages to the client.
        observer: Counts what becomes of the events; None counts nothing.
        clock: Gives seconds.
    """

    def __init__(
        self,
        conversation: Conversation,
        model: ServedModel,
        opening: Open,
        sink: MessageSink,
        observer: SessionObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.conversation = conversation
        self.model = model
        self._tick_events = model.tick_events
        self._sink = sink
        self._send = sink.put
        self._half_life_ms = opening.readout.half_life_ms or float("inf")
        self.opening = opening
        self.handle = SessionHandle("")
        self._reporter = Reporter(opening.report, model.tick_events)
        self._limits = QUEUE_LIMITS[opening.when_full](conversation.limits)
        self._input = SessionInput(model, self._limits)
        self._observer = observer or Unobserved()
        self._clock = clock
        max_lag_s = (opening.max_lag_ms or math.inf) / 1000
        window = conversation.limits.window_events
        self._fresh = Freshness(max_lag_s, model.tick_events, window)
        self._lead = Lead.of(max_lag_s, model.tick_events)
        self._withheld = 0
        self._replies = PendingReplies()
        self._snapshots_awaited: list[OnSnapshot] = []
        self.newest: Tick | None = None
        self._reported: Tick | None = None
        self._results = 0
        self.ended = False
        self.revision = 0
        """Raised by each change that a snapshot would show."""

    @property
    def drained(self) -> bool:
        """Whether every whole tick is scored."""
        return self._input.drained

    @property
    def saturated(self) -> bool:
        """Whether `settle` may wait for scores, where the oldest events are dropped."""
        return self._lead.saturated(self._clock())

    @property
    def busy(self) -> bool:
        """Whether a tick will still be scored."""
        return not (self.drained or self.ended)

    @property
    def under_way(self) -> int:
        """Events that have come and are neither scored nor dropped."""
        return self._fresh.under_way

    @property
    def events_sent(self) -> int:
        """Events that have come since the session began."""
        return self.conversation.ledger.sent.events

    @property
    def congested(self) -> bool:
        """Whether more waits than the client was allowed to send.

        Where the oldest events are dropped, only flushes make so many wait.
        """
        ledger, limits = self.conversation.ledger, self.conversation.limits
        if ledger.dropped is not None:
            return self._input.unscored > limits.window_events
        return limits.exceeded_by(ledger.pending)

    @property
    def unanswered(self) -> int:
        """Flushes that wait for their scores."""
        return len(self._replies)

    def begin(self, client: EngineClient) -> None:
        """Open a stream through the engine; `send_opened` comes next.

        Raises:
            ProtocolError: The sensor does not fit, or the engine has no place.
        """
        self.conversation.begin(self.model.tokenization)
        self._open_stream(client, None)

    def resume(
        self, client: EngineClient, snapshot: Snapshot, model: ServedModel
    ) -> None:
        """Continue from a snapshot of this model; otherwise as `begin`."""
        self.model, self._input = model, SessionInput(model, self._limits)
        self._tick_events = model.tick_events
        self.conversation.resume(model.tokenization, snapshot.conversation)
        self._open_stream(client, snapshot.row)
        self.opening = snapshot.opening
        self._reporter.resume(snapshot.position)
        self.newest, self._reported = snapshot.last, snapshot.reported
        self._results = snapshot.results
        ticks = 0 if self.newest is None else self.newest.ticks
        self._input.import_state(snapshot.input, ticks)
        under_way = self._input.ahead + self._input.queued
        self._fresh.came(under_way, self._clock())
        self._replies.import_state(snapshot.seq, snapshot.flushes, snapshot.replies)

    def _open_stream(self, client: EngineClient, row: RowState | None) -> None:
        try:
            stream = client.open(self.model.key, self._half_life_ms, self, row)
        except EngineError as error:
            raise to_wire_error(error) from None
        self._input.attach(stream)
        self._input.limit_lead(self._lead.ticks)

    def send_opened(self, handle: SessionHandle) -> None:
        """Send `opened`, and to a client that came back the newest replies again."""
        self.handle = handle
        begun = opened(handle, self.model, self.conversation)
        window, results = self._fresh.window, self._results
        self._send(replace(begun, window_events=window, results=results))
        for reply in self._replies.newest:
            self._send(reply)
        if self._reported is not None:
            self._send_result(self._reported)
        self._give(self._clock())
        self.acknowledge()
        if handle.resumed:
            self.repeat()  # what the client counts from, were it nothing

    def feed(self, chunk: TimedTokens, size: int) -> None:
        """Take a frame's events, and do all that follows from it."""
        self.take(chunk, size)
        self.settle()

    def take(self, chunk: TimedTokens, size: int) -> None:
        """Take a frame's events; `settle` follows, once for all frames that are there.

        Args:
            chunk: The events' tokens, in order of time.
            size: Bytes of `data` that they came in.
        """
        self.revision += 1
        self._fresh.came(len(chunk.tokens), self._clock())
        dropped = self._input.take(chunk, size)
        if dropped:
            self._count_dropped(dropped)

    def settle(self) -> None:
        """Drop what would be late, give the engine what it may have, acknowledge."""
        if self.ended:
            return
        now_s = self._clock()
        self._drop_overdue(now_s)
        self._give(now_s)
        self._input.stream.deliver()
        self.acknowledge()

    def shed(self, chunk: TimedTokens, size: int) -> int:
        """Take a frame's events, and drop all whole ticks that wait; return how many.

        For a live source above its key's rate.
        """
        self.revision += 1
        now_s = self._clock()
        self._fresh.came(len(chunk.tokens), now_s)
        self._input.hold_back(chunk, size)
        self._lead.given(self._input.whole_ticks, now_s)
        dropped = self._drop(self._input.droppable)
        self.acknowledge()
        return dropped

    def flush(self, request: Flush) -> None:
        """Answer for exactly the events so far, now or once they are scored."""
        if self.conversation.ledger.dropped is not None:
            self._drop(self._input.excess)
        self._input.submit_all()
        self._lead.given(self._input.whole_ticks, self._clock())
        self._replies.add_flush(
            PendingFlush(
                request.id,
                self.conversation.ledger.sent.seq,
                self._input.whole_ticks,
                self._input.pending,
                self._if_dropping(self._input.dropped),
                self.conversation.skipped,
            )
        )
        self._answer_flushes()

    def reset(self, request: Reset) -> None:
        """Begin anew; every whole tick must be scored before."""
        assert self.drained
        self._input.reset()
        self._fresh.reset()
        self._lead.reset()
        self._reporter.reset()
        self.newest = self._reported = None
        self._cancel_snapshots()
        self._reply(WasReset(request.id))

    def refuse(self, message: ErrorMessage) -> None:
        """Send the error that refuses a frame."""
        self._reply(message)
        self.acknowledge()

    def repeat(self) -> None:
        """Acknowledge a frame that had come before."""
        self._send(self._with_lag(self.conversation.ledger.ack()))

    def close(self) -> None:
        """Send the final scores; every whole tick must be scored before."""
        assert self.drained
        self._send(
            closed(
                self.newest,
                self.model.labels,
                seq=self.conversation.ledger.acked.seq,
                pending=self._input.pending,
                left_out=LeftOut(
                    self._if_dropping(self._input.dropped), self.conversation.skipped
                ),
            )
        )

    def release(self) -> None:
        """Free the slot, however the session ended."""
        self._end()
        self._withhold(0)
        self._input.close()

    def scored(self, scores: TickScores) -> None:
        """Receive some ticks' scores; send results, acks and answers to flushes."""
        if not scores.finite:
            self._end()
            self._sink.fail(InternalError())
            return
        first, count = self._input.ticks + 1, len(scores.t_us)
        now_s = self._clock()
        self._observe(count, now_s)
        chosen = self._reporter.select_many(first, scores.t_us, scores.logits)
        if self._replies.next_due < first + count:
            for k in chosen.tolist():
                self._pass_flushes(scores, first, k)
                self._report(scores, first, np.array([k]))
                self._answer_flushes()
            self._pass_flushes(scores, first, count)
        elif len(chosen):
            self._report(scores, first, chosen)
        self._advance(scores, count - 1, first + count - 1)
        if self._replies:
            self._answer_flushes()
        self.revision += 1
        if self.conversation.ledger.dropped is not None:
            self._drop_overdue(now_s)
            self._lead.scored(self._input.ticks, now_s)
            self._input.limit_lead(self._lead.ticks)
        self._give(now_s)
        self._observer.reported(len(chosen))
        self._sink.progressed()

    def _observe(self, ticks: int, now_s: float) -> None:
        """Count ticks that are scored now, and how long their events took."""
        lag_s, late = self._fresh.lag_s(now_s), self._fresh.late
        latency_s = self._fresh.scored(ticks * self._tick_events, now_s)
        self._observer.scored(latency_s, lag_s, self._fresh.late - late)

    def _drop_overdue(self, now_s: float) -> None:
        """Drop the waiting ticks that would be scored too late."""
        if self.conversation.ledger.dropped is not None:
            late = self._fresh.overdue(self._input.ahead, now_s)
            self._drop(min(late, self._input.droppable))

    def _drop(self, events: int) -> int:
        dropped = self._input.drop(events)
        self._count_dropped(dropped)
        return dropped

    def _give(self, now_s: float) -> None:
        """Give the engine what it has room for."""
        self._input.submit_ready()
        if self.conversation.ledger.dropped is not None:
            self._lead.given(self._input.whole_ticks, now_s)

    def _count_dropped(self, events: int) -> None:
        """Count waiting events that were dropped behind those that the engine has."""
        if events:
            self._fresh.dropped(self._input.ahead, events)
            self.conversation.ledger.drop(events)
            self._observer.dropped(events)

    def _pass_flushes(self, scores: TickScores, first: int, end: int) -> None:
        """Answer the flushes that are due before the tick of index `end`."""
        while (due := self._replies.next_due) < first + end:
            self._advance(scores, int(due) - first, int(due))
            self._answer_flushes()

    def _advance(self, scores: TickScores, k: int, ticks: int) -> None:
        """Count the ticks up to one, acknowledge them, and make that one the newest."""
        if ticks > self._input.ticks:
            self._input.scored(ticks - self._input.ticks)
            t_us, events = int(scores.t_us[k]), ticks * self._tick_events
            self.newest = Tick(ticks, events, t_us, scores.logits[k])
            self.acknowledge()

    def failed(self, error: EngineError) -> None:
        """Receive the engine's error and end the session."""
        self._end()
        self._sink.fail(to_wire_error(error))

    def snapshot(self, done: OnSnapshot) -> None:
        """Take a snapshot after the newest frame; `done` receives it once complete.

        The engine's half comes after the scores of all ticks that are in it, and of no
        other: at that moment reports, flushes and replies are of the same moment too.
        """
        host = HostState(self.conversation.export_state(), self._input.export_state())
        self._snapshots_awaited.append(done)
        self._input.stream.export(partial(self._complete_snapshot, done, host))

    def _complete_snapshot(
        self, done: OnSnapshot, host: HostState, row: RowState | None
    ) -> None:
        self._snapshots_awaited.remove(done)
        ticks = self._input.ticks_in(row, host.input.submitted)
        assert ticks == self._input.ticks, "a row holds exactly the ticks scored"
        flushes, replies = self._replies.export_state(host.conversation.sent.seq)
        done(
            Snapshot(
                session=self.handle.session,
                holder=self.handle.holder,
                opening=self.opening,
                model_hash=self.model.content_hash,
                conversation=host.conversation,
                input=host.input,
                row=row,
                position=self._reporter.position,
                last=self.newest,
                reported=self._reported,
                results=self._results,
                flushes=flushes,
                replies=replies,
            )
        )

    def mark_durable(self, seq: int) -> None:
        """Acknowledge that everything up to a frame is in a saved snapshot."""
        self.conversation.ledger.durable_seq = seq
        self.acknowledge()

    def grant(self, token: str) -> None:
        """Tell the client the token of a session that began without one."""
        self.handle = self.handle._replace(token=token)
        self.conversation.ledger.token = token
        self.acknowledge()

    def acknowledge(self) -> None:
        """Acknowledge what is scored; the open tick too, where nothing is before it."""
        ack = self.conversation.ledger.settle(self._input.waiting)
        if ack is not None:
            self._send(self._with_lag(ack))

    def _with_lag(self, ack: Ack) -> Ack:
        """Add the present lag and window, where the client has bounded its lag."""
        if not self._fresh.bounded:
            return ack
        lag_ms = round(1000 * self._fresh.lag_s(self._clock()))
        window = self._fresh.window
        self._withhold(self.conversation.limits.window_events - window)
        return replace(ack, lag_ms=lag_ms, window_events=window)

    def _withhold(self, events: int) -> None:
        """Note how much less the client may have under way than by its window."""
        self._observer.withheld(events - self._withheld)
        self._withheld = events

    def _end(self) -> None:
        self.ended = True
        self._cancel_snapshots()

    def _cancel_snapshots(self) -> None:
        awaited, self._snapshots_awaited = self._snapshots_awaited, []
        for done in awaited:
            done(None)

    def _reply(self, message: Reply) -> None:
        self.revision += 1
        self._replies.add_sent(self.conversation.ledger.sent.seq, message)
        self._send(message)

    def _report(
        self, scores: TickScores, first: int, chosen: npt.NDArray[np.int64]
    ) -> None:
        """Send the scores of some ticks; no flush is due before the last of them."""
        self._results += len(chosen)
        ledger, ticks, begin = self.conversation.ledger, (first + chosen).tolist(), 0
        columns = columns_of(scores, chosen, self.model.labels)
        results = ResultBatch(ledger.acked.seq, self._tick_events, ticks, *columns)
        while begin < len(ticks):
            self._input.scored(ticks[begin] - self._input.ticks)
            if ledger.settles(self._input.waiting):
                self.acknowledge()
            due = self._input.first_tick_with(ledger.next_waiting)
            end = bisect_left(ticks, due, begin + 1)
            dropped = self._if_dropping(self._input.dropped_behind)
            self._sink.put_results(results.part(begin, end, ledger.acked.seq, dropped))
            begin = end
        self._input.scored(ticks[-1] - self._input.ticks)
        k, events = int(chosen[-1]), ticks[-1] * self._tick_events
        newest = Tick(ticks[-1], events, results.t_us[-1], scores.logits[k])
        self.newest = self._reported = newest

    def _send_result(self, tick: Tick) -> None:
        seq = self.conversation.ledger.acked.seq
        dropped = self._if_dropping(self._input.dropped_behind)
        self._send(result(tick, self.model.labels, seq=seq, dropped=dropped))

    def _if_dropping(self, dropped: int) -> int | None:
        """Return the wire's `dropped`: None under a policy that never drops."""
        return None if self.conversation.ledger.dropped is None else dropped

    def _answer_flushes(self) -> None:
        for flush in self._replies.take_due(self._input.ticks):
            self._reply(
                flushed(
                    self.newest,
                    self.model.labels,
                    id=flush.id,
                    seq=flush.seq,
                    pending=flush.pending,
                    left_out=LeftOut(flush.dropped, flush.skipped),
                )
            )

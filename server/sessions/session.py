"""One session between its conversation and the engine: requests in, messages out.

No socket, no clock, and nothing to await: the engine's scores come in by `scored`, and
a carrier takes the messages to the client.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

import numpy as np

from model.events.types import Events
from server.engine.errors import EngineError
from server.engine.models import ServedModel
from server.engine.pool import Scored
from server.protocol.conversation import Conversation
from server.protocol.errors import InternalError, ProtocolError
from server.protocol.messages import (
    Flush,
    Open,
    Opened,
    Reset,
    ServerMessage,
    WasReset,
)
from server.protocol.reporting import Reporter, Tick, closed, flushed, result
from server.sessions.refusals import refusal
from server.sessions.streams import Stream, Streams


class Carrier(Protocol):
    """Who takes a session's messages to its client."""

    def put(self, message: ServerMessage) -> None:
        """Take a message."""

    def fail(self, error: ProtocolError) -> None:
        """Take the error that ends the session."""

    def progressed(self) -> None:
        """Learn that ticks were scored."""


class _FlushMark(NamedTuple):
    """A flush that is answered once so many ticks are scored."""

    id: int
    seq: int
    ticks: int
    pending: int


class Session:
    """One client's stream, from `opened` to `closed`.

    Args:
        conversation: What the client has sent and what it is told.
        model: The model that scores it.
        opened: How the client wants it.
        carrier: Takes what the client is to hear.
    """

    def __init__(
        self,
        conversation: Conversation,
        model: ServedModel,
        opened: Open,
        carrier: Carrier,
    ) -> None:
        self._conversation = conversation
        self._model = model
        self._carrier = carrier
        self._send = carrier.put
        self._half_life_ms = opened.readout.half_life_ms or float("inf")
        self._reporter = Reporter(opened.report)
        self._tokenizer = model.new_tokenizer()
        self._flushes: deque[_FlushMark] = deque()
        self._last: Tick | None = None
        self._ticks = 0
        self._submitted = 0
        self._stream: Stream | None = None

    @property
    def drained(self) -> bool:
        """Whether every whole tick is scored."""
        return self._ticks == self._submitted // self._model.tick_events

    @property
    def congested(self) -> bool:
        """Whether more waits than the client was allowed to send."""
        pending, limits = self._conversation.ledger.pending, self._conversation.limits
        return (
            pending.events > limits.window_events or pending.bytes > limits.window_bytes
        )

    def begin(self, streams: Streams, session_id: str) -> None:
        """Take a slot and tell the client.

        Raises:
            ProtocolError: The sensor does not fit, or the engine has no place.
        """
        self._conversation.begin(self._model.sensor)
        try:
            self._stream = streams.open(self._model.name, self._half_life_ms, self)
        except EngineError as error:
            raise refusal(error) from None
        self._send(self._opened(session_id))

    def feed(self, events: Events) -> None:
        """Pass a frame's events on to the engine."""
        chunk = self._tokenizer.feed(events)
        if len(chunk.tokens):
            self._submitted += len(chunk.tokens)
            self._engine.submit(chunk)
        self.acknowledge()

    def flush(self, request: Flush) -> None:
        """Answer for exactly the events so far, now or once they are scored."""
        ticks = self._submitted // self._model.tick_events
        seq = self._conversation.ledger.sent.seq
        self._flushes.append(_FlushMark(request.id, seq, ticks, self._pending))
        self._answer_flushes()

    def reset(self, request: Reset) -> None:
        """Begin anew; every whole tick must be scored before."""
        assert self.drained
        self._engine.reset()
        self._tokenizer.reset()
        self._reporter.reset()
        self._last, self._ticks, self._submitted = None, 0, 0
        self._send(WasReset(request.id))

    def close(self) -> None:
        """Tell the final scores; every whole tick must be scored before."""
        assert self.drained
        self._send(
            closed(
                self._last,
                self._model.labels,
                seq=self._conversation.ledger.acked.seq,
                pending=self._pending,
            )
        )

    def release(self) -> None:
        """Give the slot back, however the session ended."""
        if self._stream is not None:
            self._stream.close()

    def scored(self, scored: Scored) -> None:
        """Take some ticks' scores and tell the client what it wants to hear."""
        if not np.isfinite(scored.logits).all():
            self._carrier.fail(InternalError())
            return
        for logits, t_us in zip(scored.logits, scored.t_us.tolist(), strict=True):
            self._ticks += 1
            events = self._ticks * self._model.tick_events
            self._last = Tick(self._ticks, events, t_us, logits)
            self.acknowledge()
            for tick in self._reporter.select([self._last]):
                seq = self._conversation.ledger.acked.seq
                self._send(result(tick, self._model.labels, seq=seq))
            self._answer_flushes()
        self._carrier.progressed()

    def failed(self, error: EngineError) -> None:
        """End the session: the engine lost it."""
        self._carrier.fail(refusal(error))

    @property
    def _engine(self) -> Stream:
        assert self._stream is not None
        return self._stream

    @property
    def _pending(self) -> int:
        """Events in the open tick, with one that the tokenizer holds back."""
        open_tick = self._submitted % self._model.tick_events
        return open_tick + self._tokenizer.held_back

    def acknowledge(self) -> None:
        """Acknowledge what is scored; the open tick too, when it is next in line."""
        scored = self._ticks * self._model.tick_events
        held = self._tokenizer.held_back
        waiting = 0 if self.drained else self._submitted + held - scored
        ack = self._conversation.settle(waiting)
        if ack is not None:
            self._send(ack)

    def _answer_flushes(self) -> None:
        while self._flushes and self._flushes[0].ticks <= self._ticks:
            mark = self._flushes.popleft()
            self._send(
                flushed(
                    self._last,
                    self._model.labels,
                    id=mark.id,
                    seq=mark.seq,
                    pending=mark.pending,
                )
            )

    def _opened(self, session_id: str) -> Opened:
        limits = self._conversation.limits
        return Opened(
            session=session_id,
            model=self._model.name,
            model_hash=self._model.content_hash,
            labels=list(self._model.labels),
            sensor=self._model.sensor,
            tick_events=self._model.tick_events,
            window_events=limits.window_events,
            window_bytes=limits.window_bytes,
            max_frame_bytes=limits.max_frame_bytes,
        )

"""The client's half of one session: messages in, decisions out; no socket, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from saccade.clients.errors import ClientError, StreamError, stream_error
from saccade.clients.flow_control import Credit, LatencyLedger
from saccade.clients.frames import Framer, Payload, largest_frame
from saccade.clients.outgoing import SendLog
from saccade.model.events.types import Events
from saccade.server.protocol.messages import (
    Ack,
    Closed,
    ErrorMessage,
    EventsFrame,
    Flushed,
    GoAway,
    Open,
    Opened,
    Result,
    ServerMessage,
    WasReset,
)

LATENCIES_KEPT: Final = 4096
PUT_AWAY: Final = "session_idle"
"""What a server says that goes on once there is something to do."""
ENGINE_FAILED: Final = "engine_failed"
"""What a server says that has lost a session, but not what it kept of it."""
MOST_SETBACKS: Final = 3
"""After so many in a row, without a result between, the cause is the session's own."""


@dataclass(frozen=True)
class Bounds:
    """How much a client holds on to, whatever the server would allow.

    Attributes:
        results: Unread results that wait for a slow consumer; the oldest gives way.
        events_under_way: Events that may be unacknowledged, if fewer than the
            server grants: less to wait for when it falls behind.
        kept_bytes: Bytes of events that are kept until the server says that they are
            durable; beyond, `send` waits for that, or a live source drops the oldest.
    """

    results: int = 1024
    events_under_way: int | None = None
    kept_bytes: int = 1 << 25


DEFAULT_BOUNDS: Final = Bounds()


@dataclass
class StreamStats:
    """What one stream has sent and received so far.

    `events` counts what was sent as records; raw frames count as bytes only. Of them,
    `dropped_events` were let go of to make room for newer ones, by the server or
    `dropped_here`, where the server does not hear of them.
    """

    frames: int = 0
    events: int = 0
    bytes: int = 0
    acked_events: int = 0
    dropped_events: int = 0
    dropped_here: int = 0
    refused_frames: int = 0
    refused_events: int = 0
    results: int = 0
    skipped_results: int = 0
    reconnects: int = 0
    latencies_ms: deque[float] = field(
        default_factory=lambda: deque(maxlen=LATENCIES_KEPT)
    )


class Session:
    """What a client knows of its session, and what it may do next.

    Args:
        opening: What the client asked for.
        opened: The server's answer.
        bounds: How much to hold on to.
    """

    def __init__(
        self, opening: Open, opened: Opened, bounds: Bounds = DEFAULT_BOUNDS
    ) -> None:
        self.opened = opened
        self.traffic = StreamStats()
        self.results: deque[Result] = deque()
        self._refusals: list[StreamError] = []
        self.closed: Closed | None = None
        self.leaving: GoAway | None = None
        self.failure: ClientError | None = None
        self.put_away = False
        self._setbacks = 0
        self._acked_seq = 0
        self._bounds = bounds
        self.live = opening.when_full == "drop-oldest"
        self._dropped_there = 0
        self.answers: dict[int, Flushed | WasReset] = {}
        self._last_id = 0
        self._last_refused = 0
        self._scored_events = 0
        self._again: set[int] = set()
        self._asked: set[int] = set()
        self.outgoing = SendLog(keeps=opened.resume is not None)
        window_events = min(
            opened.window_events, bounds.events_under_way or opened.window_events
        )
        self._credit = Credit(window_events, opened.window_bytes)
        # A crop leaves events out and a raw frame does not tell how many it
        # holds: what the server counts is then not what was sent.
        cropped = opening.fit == "crop" and opening.sensor not in {None, opened.sensor}
        self._timed = opening.encoding == "packed" and not cropped
        self._ledger = LatencyLedger()
        self._framer = Framer(
            largest_frame(window_events, opened.window_bytes, opened.max_frame_bytes),
            opening.clock_bits,
        )

    @property
    def start_us(self) -> int | None:
        """Return the caller's timestamp that the session counts from."""
        return self._framer.start_us

    @property
    def over(self) -> bool:
        """Tell whether no further message can come."""
        return self.closed is not None or self.failure is not None

    @property
    def resting(self) -> bool:
        """Tell whether the server put the session away, and nothing is to be said.

        What was said while its word was on the way, it never read.
        """
        unheard = self._acked_seq < self.traffic.frames or self._asked
        return self.put_away and not (unheard or self.outgoing.waits)

    def payloads(self, events: Events) -> Iterator[Payload]:
        """Cut events into payloads that the server's limits allow."""
        return self._framer.frames(events)

    def may_send(self, payload: Payload) -> bool:
        """Tell whether the server's window and the own bound have room for it now.

        There is always room in a live stream, where the oldest events give way.
        """
        if self.live:
            return True
        kept = self.outgoing.kept_bytes
        if kept and kept + len(payload.data) > self._bounds.kept_bytes:
            return False
        return self._credit.allows(payload.events, len(payload.data))

    def dispatch(self, payload: Payload, now_s: float) -> None:
        """Number a payload, count it as sent, and have it sent."""
        traffic = self.traffic
        traffic.frames += 1
        traffic.events += payload.events
        traffic.bytes += len(payload.data)
        self._ledger.departed(traffic.frames, payload.events, now_s)
        frame = EventsFrame(traffic.frames, payload.data, t_base_us=payload.t_base_us)
        self._credit.spend(payload.events, len(payload.data))
        self.outgoing.say(frame, payload.events)
        if self.live:
            for seq in self.outgoing.hollow(self._bounds.kept_bytes):
                self._ledger.refused(seq)
            self._count_dropped()

    def _count_dropped(self) -> None:
        self.traffic.dropped_here = self.outgoing.dropped_events
        here, there = self.traffic.dropped_here, self._dropped_there
        self.traffic.dropped_events = here + there

    def resumed(self, opened: Opened) -> None:
        """Go on after a lost connection; what the server does not know goes again."""
        self.traffic.reconnects += 1
        self.leaving = None
        self.put_away = False
        events, size = self.outgoing.rewind(opened.seq)
        self._count_dropped()
        self._again = self.outgoing.resets() - self._asked
        self._credit.rewind(events, size)
        self._credit.spend(self.traffic.events - events, self.traffic.bytes - size)

    def next_id(self) -> int:
        """Return a number for a request that is to be answered."""
        self._last_id += 1
        self._asked.add(self._last_id)
        return self._last_id

    def refusal(self) -> StreamError | None:
        """Take what was refused since the last time; the first leads the others."""
        if not self._refusals:
            return None
        first, *further = self._refusals
        self._refusals = []
        first.further = tuple(further)
        return first

    def receive(self, message: ServerMessage, now_s: float) -> None:
        """Take in one message."""
        match message:
            case Result():
                self._score(message, now_s)
            case Ack():
                self._credit.acknowledge(message.events, message.bytes)
                self._acked_seq = max(self._acked_seq, message.seq)
                self.traffic.acked_events = max(
                    self.traffic.acked_events, message.events
                )
                self.outgoing.durable(message.durable_seq)
                self._dropped_there = message.dropped or 0
                self._count_dropped()
            case Flushed() | WasReset():
                self._answered(message)
            case Closed():
                self.closed = message
            case ErrorMessage():
                self._refuse(message)
            case GoAway():
                self.leaving = message
            case Opened():
                self.fail(StreamError("unexpected_message", "opened twice", fatal=True))

    def fail(self, failure: ClientError) -> None:
        """End the session for good; the first reason counts."""
        if not self.over:
            self.failure = failure

    def _answered(self, answer: Flushed | WasReset) -> None:
        if isinstance(answer, Flushed):
            self.outgoing.answered(answer.id)
        else:
            self._again.discard(answer.id)
        if answer.id not in self._asked:
            return  # it came before the connection was lost
        self._asked.discard(answer.id)
        self.answers[answer.id] = answer
        if isinstance(answer, WasReset):
            self._scored_events = 0
            self._ledger.restart()
            self._framer.restart()

    def _score(self, result: Result, now_s: float) -> None:
        if self._again or result.events <= self._scored_events:
            return  # it is known, or of what was before a reset
        self._scored_events = result.events
        self._setbacks = 0
        self.traffic.results += 1
        counted = result.events + (result.dropped or 0)
        latency_ms = self._ledger.scored(counted, now_s)
        if self._timed and latency_ms is not None:
            self.traffic.latencies_ms.append(latency_ms)
        self.results.append(result)
        if len(self.results) > self._bounds.results:
            self.results.popleft()
            self.traffic.skipped_results += 1

    def _goes_on_after(self, code: str) -> bool:
        """Tell whether the session can be resumed, and is worth it."""
        if self.opened.resume is None:
            return False
        self.put_away = code == PUT_AWAY
        self._setbacks += code == ENGINE_FAILED
        failed = code == ENGINE_FAILED and self._setbacks <= MOST_SETBACKS
        return self.put_away or failed

    def _refuse(self, error: ErrorMessage) -> None:
        refusal = stream_error(error)
        if self._goes_on_after(error.code):
            return
        if error.fatal:
            self.fail(refusal)
            return
        if error.seq is not None:
            if error.seq <= self._last_refused:
                return  # it was told before the connection was lost
            self._last_refused = error.seq
        self._refusals.append(refusal)
        self.traffic.refused_frames += 1
        if error.seq is not None:
            self.traffic.refused_events += self._ledger.refused(error.seq)

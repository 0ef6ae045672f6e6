"""The client's half of one session: messages in, decisions out; no socket, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from saccade.clients.conversion import to_events, to_packable
from saccade.clients.errors import ClientError, StreamError, stream_error
from saccade.clients.flow_control import Credit, LatencyLedger
from saccade.clients.frames import Framer, Payload, largest_frame
from saccade.clients.outgoing import SendLog
from saccade.model.events.types import Events
from saccade.server.protocol.errors import EngineFailed, SessionIdle
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
MAX_ENGINE_FAILURES: Final = 3
"""After more in a row, without a result between, the session itself is the cause."""

Answer = TypeVar("Answer", Result, Flushed, Closed)


@dataclass(frozen=True)
class Bounds:
    """How much a client keeps in memory, whatever the server would allow.

    Attributes:
        results: Unread results that wait for a slow consumer; beyond, the oldest is
            skipped.
        events_under_way: Events that may be unacknowledged, if fewer than the
            server grants: less to wait for when it falls behind.
        kept_bytes: Bytes of events that are kept until the server reports them
            durable; beyond, `send` waits for that, or a live source drops the oldest.
    """

    results: int = 1024
    events_under_way: int | None = None
    kept_bytes: int = 1 << 25


DEFAULT_BOUNDS: Final = Bounds()


@dataclass
class StreamStats:
    """Counts of what one stream has sent and received so far.

    `events` counts what was sent as records; raw frames count as bytes only. Of them,
    `dropped_events` were dropped to make room for newer ones, by the server or, where
    the server does not know of them, by this client: `dropped_locally`.
    `superseded_results` were left out by the server, since results came faster than
    they were read; `skipped_results` by this client; `lost_results` were on their way
    when a connection was lost. With `max_lag_ms`, `lag_ms` is the
    age of the oldest event that the server has not scored, and `window_events` the
    credit that it grants, both as of the newest acknowledgement; None otherwise.
    `skipped_events` were invalid, and left out where that was chosen: by the server,
    and `skipped_locally` by this client, where no record of the wire could hold them.
    `first_refusal` is the server's sentence about the first frame that it refused.
    `start_us` is the caller's timestamp of the first event; None before it.
    """

    frames: int = 0
    events: int = 0
    bytes: int = 0
    acked_events: int = 0
    dropped_events: int = 0
    dropped_locally: int = 0
    skipped_events: int = 0
    skipped_locally: int = 0
    refused_frames: int = 0
    refused_events: int = 0
    first_refusal: str | None = None
    results: int = 0
    skipped_results: int = 0
    superseded_results: int = 0
    lost_results: int = 0
    lag_ms: int | None = None
    window_events: int | None = None
    start_us: int | None = None
    reconnects: int = 0
    latencies_ms: deque[float] = field(
        default_factory=lambda: deque(maxlen=LATENCIES_KEPT), repr=False
    )


class Session:
    """The state of one session, and what the client may do next."""

    def __init__(
        self, opening: Open, opened: Opened, bounds: Bounds = DEFAULT_BOUNDS
    ) -> None:
        self.opened = opened
        self.stats = StreamStats()
        self.results: deque[Result] = deque()
        self.replies: dict[int, Flushed | WasReset] = {}
        self.closed: Closed | None = None
        self.goaway: GoAway | None = None
        self.failure: ClientError | None = None
        self.suspended = False
        self.encoding = opening.encoding
        self._skips_invalid = opening.invalid == "skip"
        self._skipped_by_server = 0
        self.drops_oldest = opening.when_full == "drop-oldest"
        resumable = opened.resume is not None
        self.send_log = SendLog(resumable=resumable, seq=opened.seq)
        self.caught_up = not opened.resumed
        self._bounds = bounds
        self._refusals: list[StreamError] = []
        self._refusals_to_iterate: list[StreamError] = []
        self._engine_failures = 0
        self._sent_seq = opened.seq
        self._acked_seq = opened.seq
        self._dropped_by_server = 0
        self._newest_request = 0
        self._newest_refused = opened.seq
        self._scored_events = 0
        self._reported_by_server: int | None = None
        self._resets_sent_again: set[int] = set()
        self._unanswered: set[int] = set()
        window_events = min(
            opened.window_events, bounds.events_under_way or opened.window_events
        )
        self._credit = Credit(window_events, opened.window_bytes)
        # A crop leaves events out, and the events of a raw frame are not counted here:
        # the server then counts others than were sent.
        cropped = opening.fit == "crop" and opening.sensor not in {None, opened.sensor}
        counted = opening.encoding == "packed" and not cropped
        self._timed = counted and not opened.resumed
        self._ledger = LatencyLedger()
        self._framer = Framer(
            largest_frame(window_events, opened.window_bytes, opened.max_frame_bytes),
            opening.clock_bits,
        )

    @property
    def ended(self) -> bool:
        """Whether the session is closed or failed: no further message can come."""
        return self.closed is not None or self.failure is not None

    @property
    def owed(self) -> bool:
        """Whether the server owes an acknowledgement or an answer."""
        unread = self._acked_seq < self._sent_seq or bool(self._unanswered)
        return unread or self.send_log.needs_connection

    @property
    def resumable(self) -> bool:
        """Whether the session survives the loss of its connection now."""
        return self.opened.resume is not None and self.send_log.complete

    @property
    def idle(self) -> bool:
        """Whether the server suspended the session, and there is nothing to send.

        The server never read what was sent while its `session_idle` was on the way.
        """
        return self.suspended and not self.owed

    def convert(self, given: Any) -> Events:
        """Return a caller's events; those that no record can hold may be skipped.

        Raises:
            EventsError: The value holds no events, or some that cannot be sent.
        """
        if not self._skips_invalid:
            return to_events(given)
        events, left_out = to_packable(given)
        self.stats.skipped_locally += left_out
        self._count_skipped()
        return events

    def payloads(self, events: Events) -> Iterator[Payload]:
        """Cut events into payloads that the server's limits allow."""
        return self._framer.frames(events)

    def may_send(self, payload: Payload) -> bool:
        """Return whether the server's window and the own bound have room for it now.

        A session that drops the oldest events always has room.
        """
        if self.drops_oldest:
            return True
        kept = self.send_log.kept_bytes
        if kept and kept + len(payload.data) > self._bounds.kept_bytes:
            return False
        return self._credit.allows(payload.events, len(payload.data))

    def dispatch(self, payload: Payload, now_s: float) -> None:
        """Number a payload, count it as sent, and append it to the log."""
        stats = self.stats
        stats.frames += 1
        stats.events += payload.events
        stats.bytes += len(payload.data)
        stats.start_us = self._framer.start_us
        self._sent_seq += 1
        self._ledger.add(self._sent_seq, payload.events, now_s)
        frame = EventsFrame(self._sent_seq, payload.data, t_base_us=payload.t_base_us)
        self._credit.spend(payload.events, len(payload.data))
        self.send_log.append(frame, payload.events)
        if self.drops_oldest:
            for seq in self.send_log.drop_payloads(self._bounds.kept_bytes):
                self._ledger.discard(seq)
            self._count_dropped()

    def resume(self, opened: Opened) -> None:
        """Go on after a lost connection; what the server has not goes out again."""
        self.stats.reconnects += 1
        self.goaway = None
        self.suspended = False
        self.opened = replace(self.opened, replica=opened.replica)
        self._reported_by_server = opened.results
        events, size = self.send_log.rewind(opened.seq)
        self._count_dropped()
        self._resets_sent_again = self.send_log.unsent_resets() - self._unanswered
        newest_events, newest_size = self.send_log.totals
        self._credit.rewind(events, size)
        self._credit.spend(newest_events - events, newest_size - size)

    def new_request(self) -> int:
        """Return the id of a new request, whose reply will be in `replies`."""
        self._newest_request += 1
        self._unanswered.add(self._newest_request)
        return self._newest_request

    def take_refusal(self) -> StreamError | None:
        """Return the first refusal since the last call, with the rest in `further`."""
        refusals, self._refusals = self._refusals, []
        return _first(refusals)

    @property
    def readable(self) -> bool:
        """Whether an iterator has something to yield, or a refusal to raise."""
        return bool(self.results or self._refusals_to_iterate)

    def take_refusal_to_iterate(self) -> StreamError | None:
        """Return what `take_refusal` does, for the iterator: each sees all refusals."""
        refusals, self._refusals_to_iterate = self._refusals_to_iterate, []
        return _first(refusals)

    def receive(self, message: ServerMessage, now_s: float) -> None:
        """Apply one message of the server."""
        match message:
            case Result():
                self._receive_result(message, now_s)
            case Ack():
                self._receive_ack(message)
            case Flushed() | WasReset():
                self._receive_reply(message)
            case Closed():
                self.closed = self._as_the_caller_counts(message)
            case ErrorMessage():
                self._receive_error(message)
            case GoAway():
                self.goaway = message
            case Opened():
                self.fail(StreamError("unexpected_message", "opened twice", fatal=True))

    def fail(self, failure: ClientError) -> None:
        """End the session for good; the first reason counts."""
        if not self.ended:
            self.failure = failure

    def _receive_result(self, result: Result, now_s: float) -> None:
        # Others are a repetition, or of the stream before a reset.
        if not self._resets_sent_again and result.events > self._scored_events:
            self._take_result(result, now_s)
        self._count_lost()

    def _count_lost(self) -> None:
        """Count the results that the server reported and no connection has brought.

        The first result after a return is the newest that the server has reported.
        """
        if self._reported_by_server is not None:
            stats = self.stats
            known = stats.results + stats.superseded_results + stats.lost_results
            stats.lost_results += max(0, self._reported_by_server - known)
            self._reported_by_server = None

    def _take_result(self, result: Result, now_s: float) -> None:
        self._scored_events = result.events
        self._engine_failures = 0
        self.stats.results += 1
        self.stats.superseded_results += result.superseded
        counted = result.events + (result.dropped or 0)
        latency_ms = self._ledger.latency_ms(counted, now_s)
        if self._timed and latency_ms is not None:
            self.stats.latencies_ms.append(latency_ms)
        self.results.append(self._as_the_caller_counts(result))
        if len(self.results) > self._bounds.results:
            self.results.popleft()
            self.stats.skipped_results += 1

    def _as_the_caller_counts(self, answer: Answer) -> Answer:
        """Return an answer with its time by the caller's clock."""
        shift_us = self._framer.shift_us
        if not shift_us or answer.t_us is None:
            return answer
        return replace(answer, t_us=answer.t_us + shift_us)

    def _receive_ack(self, ack: Ack) -> None:
        if not self.caught_up:
            self._catch_up(ack)
            return
        self._credit.acknowledge(ack.events, ack.bytes)
        self._acked_seq = max(self._acked_seq, ack.seq)
        self.stats.acked_events = max(self.stats.acked_events, ack.events)
        if ack.resume is not None and self.opened.resume is None:
            self.opened = replace(self.opened, resume=ack.resume)
            self.send_log.keep()
        self.send_log.discard_durable(ack.durable_seq)
        self.stats.lag_ms, self.stats.window_events = ack.lag_ms, ack.window_events
        if ack.window_events is not None:
            most = self._bounds.events_under_way or ack.window_events
            self._credit.grant(min(ack.window_events, most))
        self._dropped_by_server = ack.dropped or 0
        self._count_dropped()
        self._skipped_by_server = ack.skipped or 0
        self._count_skipped()

    def _catch_up(self, ack: Ack) -> None:
        """Count on from an earlier client's totals, once all its frames are consumed.

        Before, this client does not know what those under way count for.
        """
        if ack.seq >= self._sent_seq:
            self._credit.rewind(ack.events, ack.bytes)
            self._credit.acknowledge(ack.events, ack.bytes)
            self.send_log.count_from(ack.events, ack.bytes)
            self.caught_up = True

    def _receive_reply(self, reply: Flushed | WasReset) -> None:
        if isinstance(reply, Flushed):
            self.send_log.discard_flush(reply.id)
        else:
            self._resets_sent_again.discard(reply.id)
        if reply.id not in self._unanswered:
            return  # a repetition: it came before the connection was lost
        self._unanswered.discard(reply.id)
        if isinstance(reply, Flushed):
            reply = self._as_the_caller_counts(reply)
        self.replies[reply.id] = reply
        if isinstance(reply, WasReset):
            self._scored_events = 0
            self._ledger.restart()
            self._framer.restart()

    def _receive_error(self, error: ErrorMessage) -> None:
        if self._can_resume_after(error.code):
            return
        refusal = stream_error(error)
        if error.fatal:
            self.fail(refusal)
            return
        if error.seq is not None:
            if error.seq <= self._newest_refused:
                return  # a repetition: it came before the connection was lost
            self._newest_refused = error.seq
        self._refusals.append(refusal)
        self._refusals_to_iterate.append(replace(refusal))
        self.stats.refused_frames += 1
        self.stats.first_refusal = self.stats.first_refusal or str(refusal)
        if error.seq is not None:
            self.stats.refused_events += self._ledger.discard(error.seq)

    def _can_resume_after(self, code: str) -> bool:
        """Return whether the session can be resumed after an error, and is worth it."""
        if not self.resumable:
            return False
        self.suspended = code == SessionIdle.code
        failed = code == EngineFailed.code
        self._engine_failures += failed
        return self.suspended or (
            failed and self._engine_failures <= MAX_ENGINE_FAILURES
        )

    def _count_skipped(self) -> None:
        local = self.stats.skipped_locally
        self.stats.skipped_events = self._skipped_by_server + local

    def _count_dropped(self) -> None:
        self.stats.dropped_locally = self.send_log.dropped_events
        self.stats.dropped_events = self.stats.dropped_locally + self._dropped_by_server


def _first(refusals: list[StreamError]) -> StreamError | None:
    """Return the first of some refusals, with the others in `further`."""
    if not refusals:
        return None
    first, *further = refusals
    first.further = tuple(further)
    return first


class SessionView:
    """What the streams of both SDKs show of their session."""

    _session: Session

    @property
    def opened(self) -> Opened:
        """The server's answer to `open`: labels, sensor, tick size, limits."""
        return self._session.opened

    @property
    def stats(self) -> StreamStats:
        """Counts of what was sent and received so far, and latencies of results."""
        return self._session.stats

    @property
    def traffic(self) -> StreamStats:
        """Another name of `stats`, for programs written before it."""
        return self._session.stats

    @property
    def start_us(self) -> int | None:
        """The caller's timestamp of the first event, once events were sent."""
        return self._session.stats.start_us

    @property
    def closed(self) -> Closed | None:
        """The final scores, once the session has ended."""
        return self._session.closed

    @property
    def goaway(self) -> GoAway | None:
        """The server's message that it is about to stop; None before it came."""
        return self._session.goaway

"""One websocket, from `open` to `closed`. Start reading here.

A connection is two loops around one session:

    reader   socket → conversation (decode, check) → session → engine
    writer   engine → session → send queue → conversation (encode) → socket

The reader never stops while the connection is healthy, so that pings are answered:
credit bounds what a client may send (`credit.py`). An `open`, a `reset` or a `close`
takes time, until then later messages wait in a backlog, within the same credit. The
writer comes last: whatever ends the session, it sends what waits and closes the socket.

A session outlives its connection unless the client or the server ended the session:
the registry keeps it until the client resumes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

from fastapi import APIRouter
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from saccade.server.logs import about, current_client, log_refusal
from saccade.server.protocol.codec import Wire
from saccade.server.protocol.conversation import (
    Conversation,
    Feed,
    Repeat,
    Reply,
    Request,
)
from saccade.server.protocol.errors import (
    InternalError,
    ProtocolError,
    SessionIdle,
    TakenOver,
)
from saccade.server.protocol.messages import Close, Flush, Open, Reset, ResultBatch
from saccade.server.sessions.registry import LiveSession, OpenRequest, key_of
from saccade.server.sessions.session import Session
from saccade.server.telemetry.spans import NoSpan, SessionSpan
from saccade.server.transport.coalescing import LINGER_S
from saccade.server.transport.credit import AckWriter, Backlog, Credit, Decoded
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.model_metrics import SessionMetrics
from saccade.server.transport.rate_limits import WINDOW_S
from saccade.server.transport.send_queue import Ending, Outgoing, SendQueue
from saccade.server.transport.service import Service
from saccade.server.transport.silence import SilenceTimer
from saccade.server.transport.socket import Socket

LOG: Final = logging.getLogger(__name__)
GONE: Final = Ending(1001, "the client went away")
HUNG_UP: Final = Ending(1000, "the client hung up")
DONE: Final = Ending(1000)
PLACED: Final = ("placed", "true")
"""The query of a client that asked for a placement, and will again."""
HOLD_S: Final = 0.1
"""Time between two attempts to learn whose a session is whose messages are held."""


class StreamEndpoint:
    """The ASGI application behind `/v1/stream`: one session on one websocket.

    Args:
        service: The state that all connections share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        socket, service = Socket(scope, receive, send), self._service
        await socket.accept()
        connection = Connection(socket, service)
        service.connections.add(connection.queue)
        if PLACED in parse_qsl(scope.get("query_string", b"").decode("latin-1")):
            service.placed.add(connection.queue)
        reading = asyncio.create_task(connection.read())
        # A task of its own: each wake-up of this one passes through all middleware.
        writing = asyncio.create_task(connection.write())
        try:
            await writing
        finally:
            service.disconnect(connection.queue)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


def stream_routes(service: Service) -> APIRouter:
    """Return the route `/v1/stream`."""
    router = APIRouter()
    router.routes.append(WebSocketRoute("/v1/stream", StreamEndpoint(service)))
    return router


class Connection:
    """One client's reader and writer.

    Args:
        socket: The client's socket, accepted.
        service: The state that all connections share.
    """

    def __init__(self, socket: Socket, service: Service) -> None:
        most = service.settings.outbox_messages
        self.queue = SendQueue(most, self._note_refusal)
        self._socket = socket
        self._service = service
        self._conversation = Conversation(service.limits)
        self._backlog = Backlog(most)
        self._acks = AckWriter(
            Credit(service.limits, most), self.queue, service.metrics.count_rate_pause
        )
        self._silence = SilenceTimer(self._end_if_idle)
        self._client = current_client()
        self._holder: str = socket.scope.get(HOLDER, "")
        self._quota = service.quotas.of(self._holder)
        self._span: SessionSpan = NoSpan()
        self._live: LiveSession | None = None
        self._work: asyncio.Task[None] | None = None
        self._superseded = 0
        self._closing = False
        self._refused = False
        self._settling = False
        self._gave_way = False
        self._planned = self._idle = False
        self._left = False
        self.queue.attach(self)

    async def read(self) -> None:
        """Handle the client's messages until the connection ends."""
        self._silence.restart(self._service.settings.open_s)
        try:
            with self._ending_on_error():
                self._throttle = self._quota.throttle()
                code = await self._socket.listen(self._hear)
                self.queue.end(HUNG_UP if code == HUNG_UP.close_code else GONE)
        finally:
            self._left = True
            self._silence.stop()
            self._acks.stop()
            try:
                await self._stop_work()
            finally:
                self._leave()

    def _hear(self, data: Wire) -> bool:
        """Handle a message; return whether the next may follow before the writer.

        Raises:
            ProtocolError: The session ends.
        """
        self._silence.heard()
        if not (self.queue.deaf or self._closing):
            if self._gave_way:
                self.queue.check()
            self._receive(data)
        self._gave_way = self.queue.crowded
        return not self._gave_way

    async def write(self) -> None:
        """Send the session's messages, then close the socket."""
        try:
            async with asyncio.timeout(None) as self._deadline:
                while messages := await self._next():
                    await self._socket.send(self._encoded(messages))
                ending = self.queue.ending
                assert ending is not None, "the queue returns none only then"
                if ending not in {GONE, HUNG_UP}:
                    await self._socket.close(ending.close_code, ending.reason)
        except (OSError, RuntimeError, TimeoutError):
            facts = about("client_left", self._client)
            LOG.debug("the client went away while it was written to", extra=facts)

    async def _next(self) -> list[Outgoing]:
        """Wait for messages that may be sent; none once the end has come."""
        self._idle = True
        await self.queue.wait_until_filled()
        self._idle = False
        if self._live is not None and not self._known_here(self._live):
            await self._hold(self._live)
        return self.queue.take_all()

    def write_soon(self) -> None:
        """Send what waits after this turn of the event loop."""
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self.write_now)

    def write_now(self) -> None:
        """Send what waits, or wake the writer where something has to be waited for."""
        self._planned = False
        if not self.queue.filled:
            return
        here = self._live is None or self._known_here(self._live)
        direct = self._idle and here and self.queue.ending is None
        with self._ending_on_error():
            if not (direct and self._socket.send_now(self._waiting)):
                self.queue.wake()

    def _waiting(self) -> list[Wire]:
        return self._encoded(self.queue.take_all())

    def _known_here(self, live: LiveSession) -> bool:
        """Return whether the session is this server's, as far as anybody can know.

        While the store does not answer, a client that sends vouches for itself.
        """
        if live.confirmed:
            return True
        lease_s = self._service.settings.lease_s
        return self._service.registry.store_fails and self._silence.silent_s < lease_s

    async def _hold(self, live: LiveSession) -> None:
        """Hold what waits until the session is known to be here; drop it if not."""
        ends = self.queue
        while not (self._left or live.lost or ends.ending not in {None, DONE}):
            await self._service.registry.confirm(live)
            if self._known_here(live):
                return
            await asyncio.sleep(HOLD_S)
        if live.lost and ends.ending is DONE:
            self.queue.lose(TakenOver())
        self.queue.silence()

    def _encoded(self, messages: list[Outgoing]) -> list[Wire]:
        self._count_superseded()
        written: list[Wire] = []
        for message in self._acks.release(messages):
            if isinstance(message, ResultBatch):
                written += self._conversation.write_results(message)
            else:
                written.append(self._conversation.write(message))
        return written

    def _receive(self, data: Wire) -> None:
        """Handle a message, or let it wait for the one before."""
        self._throttle.charge(size=len(data))
        message = self._conversation.decode(data)
        if self._work is None:
            self._take(message)
        else:
            self._backlog.append(message)
        ledger, waiting = self._conversation.ledger, self._backlog.counts
        if self._throttle.holding:
            self._acks.credit.hold(ledger.sent, waiting, self._throttle.free_s)
        raw = self._conversation.encoding != "packed"
        self._acks.credit.check(ledger, waiting, raw=raw)

    def _take(self, message: Decoded) -> None:
        for request in self._conversation.receive(message):
            if type(request) is Feed:
                self._feed(request)
            else:
                self._handle(request)

    def _handle(self, request: Request) -> None:
        match request:
            case Open():
                self._begin(partial(self._open, request))
            case Reply(message):
                self._note("a frame", message.code, message.message)
                self._session.refuse(message)
            case Repeat():
                self._session.repeat()
            case Flush():
                self._settle()
                self._session.flush(request)
                self._acks.credit.check_flushes(self._session.unanswered)
            case Reset() | Close():
                self._settle()
                self._closing = isinstance(request, Close)
                self._begin(partial(self._conclude, request))

    def _note_refusal(self, error: ProtocolError) -> None:
        """Count and log an error that ends the connection."""
        self._note("a session", error.code, str(error))

    def _note(self, what: str, code: str, reason: str) -> None:
        self._service.metrics.count_refusal(code)
        address = self._socket.scope.get("client")
        log_refusal(address, what, code, reason, self._client)

    def _feed(self, feed: Feed) -> None:
        """Give a frame's events to the session, and charge the key for them.

        A live source need not wait for credit: above its key's rate its events are
        dropped, and those that are dropped are not charged.
        """
        chunk, size, session = feed.chunk, feed.size, self._session
        events = len(chunk.tokens)
        self._metrics.events_received.inc(events)
        if feed.skipped:
            self._metrics.events_skipped.inc(feed.skipped)
        live = self._conversation.ledger.dropped is not None
        self._throttle.charge(events=events)
        if live and self._throttle.owed_s > WINDOW_S:
            self._throttle.charge(events=-session.shed(chunk, size))
            return
        idle = session.drained
        session.take(chunk, size)
        if idle:
            self._settle()
        elif not (live and session.saturated):
            self._settle_soon()
        if not live and session.congested:
            self._begin(self._wait_for_room)

    def _settle_soon(self) -> None:
        """Settle the session once all frames that are there have been taken."""
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._settling = False
        try:
            self._session.settle()
        except Exception as error:
            self._fail(error)

    def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start work that takes time; later messages wait for it in the backlog."""
        self._work = asyncio.create_task(self._do(work))

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        with self._ending_on_error():
            await work()
            self._work = None
            for message in self._backlog.take():
                self._take(message)
                if self._work is not None:
                    break

    async def _open(self, request: Open) -> None:
        model = self._service.model(request.model)
        headers, telemetry = self._socket.scope["headers"], self._service.telemetry
        self._span = telemetry.session(headers, model.name, self._client)
        registry = self._service.registry
        if request.resume:
            elsewhere = self._service.elsewhere
            await elsewhere.take_over(key_of(request.resume), self._holder)
        resumed = registry.sink_of(request.resume) if request.resume else None
        self._quota.add_session(self.queue, replacing=resumed)
        metrics = self._service.metrics.model(model.name)
        observer = SessionMetrics(metrics)
        session = Session(self._conversation, model, request, self.queue, observer)
        opening = OpenRequest(request, model, self.queue, self._holder)
        enter = registry.begin if request.resume is None else registry.resume
        try:
            self._live = await enter(session, opening)
        except BaseException:
            session.release()
            raise
        observer.session = session.handle.session
        self._acks.credit.begin(self._conversation.ledger.acked)
        self._silence.restart(self._service.settings.idle_s)
        if request.results == "latest":
            self.queue.most_results = 1
        self._metrics = metrics
        self._metrics.sessions.inc()
        self._metrics.sessions_open.inc()
        handle = session.handle
        self._client.session = handle.session
        self._span.begun(handle.session, resumed=handle.resumed)
        facts = about("session_opened", self._client, model=model.name)
        said = "a session of %s %s"
        what = "is resumed" if handle.resumed else "begins"
        LOG.debug(said, model.name, what, extra=facts)

    async def _wait_for_room(self) -> None:
        """Wait while more events wait than the window; raw frames unfold so far."""
        await self.queue.wait_for(lambda: not self._session.congested)

    async def _conclude(self, request: Reset | Close) -> None:
        """Wait until all that the client sent is scored, then reset or end."""
        await self.queue.wait_for(lambda: self._session.drained)
        if self.queue.ending is not None:
            return  # the rest is never scored here
        if isinstance(request, Reset):
            self._session.reset(request)
            assert self._live is not None
            self._live.watches.reset()
        else:
            self._session.close()
            self.queue.end(DONE)

    async def _stop_work(self) -> None:
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError):
                await self._work

    def _end_if_idle(self, silent_s: float) -> bool:
        """End a connection that was silent for long, unless there is work for it."""
        if self._work is not None or (self._live and not self._session.drained):
            return False
        self.queue.fail(SessionIdle(silent_s))
        return True

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End the connection by an error, which is logged where it is not expected."""
        if isinstance(error, ProtocolError):
            self._refused = True
            self.queue.fail(error)
            with suppress(RuntimeError):  # the writer has ended
                loop = asyncio.get_running_loop()
                self._deadline.reschedule(loop.time() + LINGER_S)
        else:
            facts = about("session_failed", self._client)
            LOG.error("a session failed", exc_info=error, extra=facts)
            self.queue.fail(InternalError())

    def _leave(self) -> None:
        """Detach, finish or discard the session; called once."""
        self._quota.remove_session(self.queue)
        code, why = self.queue.ending or GONE
        events = 0 if self._live is None else self._session.events_sent
        self._span.end(code, events)
        if self._live is None:
            return
        registry = self._service.registry
        if self.queue.ending is DONE:
            registry.finish(self._live)
        elif self._refused or self.queue.ending is HUNG_UP:
            registry.discard(self._live)
        else:
            registry.detach(self._live)
        self._metrics.sessions_open.dec()
        self._count_superseded()
        facts = about("session_left", self._client, code=code, events=events)
        said = "the connection of a session ends with %d after %d events: %s"
        LOG.debug(said, code, events, why or "closed", extra=facts)

    def _count_superseded(self) -> None:
        if self.queue.superseded > self._superseded:
            new = self.queue.superseded - self._superseded
            self._metrics.results_superseded.inc(new)
            self._superseded += new

    @property
    def _session(self) -> Session:
        assert self._live is not None, "the conversation refuses all before open"
        return self._live.session

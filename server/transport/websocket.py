"""One websocket, from `open` to `closed`. Start reading here.

A connection is two loops around one session:

    reader   socket → conversation (decode, check) → session → engine
    writer   engine → session → send queue → conversation (encode) → socket

The reader takes the next message only while the session's window and the send queue
have room; until then the socket is not read, which holds the client back. The writer
comes last: whatever ends the session, it sends what waits and closes the socket.

A session outlives its connection unless the client or the server ended the session:
the registry keeps it until the client resumes it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.types import Message

from saccade.server.protocol.codec import Wire
from saccade.server.protocol.conversation import (
    Conversation,
    Feed,
    Repeat,
    Reply,
    Request,
)
from saccade.server.protocol.errors import InternalError, ProtocolError, SessionIdle
from saccade.server.protocol.messages import Close, Flush, Open, Reset
from saccade.server.sessions.registry import LiveSession, OpenRequest, key_of
from saccade.server.sessions.session import Session
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.rate_limits import ReadThrottle
from saccade.server.transport.send_queue import Ending, SendQueue
from saccade.server.transport.service import Service

LOG: Final = logging.getLogger(__name__)
GONE: Final = Ending(1001, "the client went away")
HUNG_UP: Final = Ending(1000, "the client hung up")
DONE: Final = Ending(1000)


def stream_routes(service: Service) -> APIRouter:
    """Return the route `/v1/stream`: one session on one websocket."""
    router = APIRouter()

    @router.websocket("/v1/stream")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        connection = Connection(websocket, service)
        service.connections.add(connection.queue)
        reading = asyncio.create_task(connection.read())
        try:
            await connection.write()
        finally:
            service.disconnect(connection.queue)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    return router


class Connection:
    """One client's reader and writer.

    Args:
        websocket: The client's socket, accepted.
        service: The state that all connections share.
    """

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self.queue = SendQueue(
            service.settings.outbox_messages, service.metrics.count_refusal
        )
        self._websocket = websocket
        self._service = service
        self._conversation = Conversation(service.limits)
        self._holder: str = websocket.scope.get(HOLDER, "")
        self._quota = service.quotas.of(self._holder)
        self._throttle = ReadThrottle(self._quota)
        self._live: LiveSession | None = None
        self._refused = False

    async def read(self) -> None:
        """Handle the client's messages until the connection ends."""
        try:
            self._throttle.charge()
            while (data := await self._receive()) is not None:
                self._throttle.charge(size=len(data))
                for request in self._conversation.read(data):
                    await self._handle(request)
        except SessionIdle as error:
            self.queue.fail(error)
        except WebSocketDisconnect as error:
            self.queue.end(HUNG_UP if error.code == HUNG_UP.close_code else GONE)
        except ProtocolError as error:
            self._refused = True
            self.queue.fail(error)
        except Exception:
            LOG.exception("a session failed")
            self.queue.fail(InternalError())
        finally:
            self._leave()

    async def write(self) -> None:
        """Send the session's messages, then close the socket."""
        try:
            while not isinstance(item := await self.queue.next(), Ending):
                data = self._conversation.write(item)
                if isinstance(data, str):
                    await self._websocket.send_text(data)
                else:
                    await self._websocket.send_bytes(data)
            if item not in {GONE, HUNG_UP}:
                await self._websocket.close(item.close_code, item.reason)
        except (WebSocketDisconnect, RuntimeError):
            LOG.debug("the client went away while it was written to")

    async def _receive(self) -> Wire | None:
        """Wait for room, then for the next message; None once the connection ends."""
        await self.queue.wait_for(self._has_room)
        if (pause_s := self._throttle.pause_s) > 0:
            self._service.metrics.count_rate_pause()
            await self.queue.wait_for(lambda: False, pause_s)
        if self.queue.ending is not None:
            return None
        message = await self._receive_in_time()
        if self.queue.ending is not None:
            return None  # another connection may have resumed the session meanwhile
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    async def _receive_in_time(self) -> Message:
        """Wait for the next message, for as long as a client may be silent.

        Raises:
            SessionIdle: No message came, and the session has nothing left to score.
        """
        settings = self._service.settings
        idle_s = settings.open_s if self._live is None else settings.idle_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(idle_s or None):
                    return await self._websocket.receive()
            if self._live is None or self._session.drained:
                raise SessionIdle(idle_s)

    def _has_room(self) -> bool:
        congested = self._live is not None and self._session.congested
        return self.queue.reading and not (congested or self.queue.full)

    async def _handle(self, request: Request) -> None:
        match request:
            case Open():
                await self._open(request)
            case Feed(chunk, size):
                self._metrics.events_received.inc(len(chunk.tokens))
                self._metrics.events_dropped.inc(self._session.feed(chunk, size))
                self._throttle.charge(events=len(chunk.tokens))
            case Reply(message):
                self._service.metrics.count_refusal(message.code)
                self._session.refuse(message)
            case Repeat():
                self._session.repeat()
            case Flush():
                self._session.flush(request)
            case Reset() | Close():
                await self._conclude(request)

    async def _open(self, request: Open) -> None:
        model = self._service.model(request.model)
        registry = self._service.registry
        if request.resume:
            elsewhere = self._service.elsewhere
            await elsewhere.take_over(key_of(request.resume), self._holder)
        resumed = registry.sink_of(request.resume) if request.resume else None
        self._quota.add_session(self.queue, replacing=resumed)
        session = Session(self._conversation, model, request, self.queue)
        opening = OpenRequest(request, model, self.queue, self._holder)
        enter = registry.begin if request.resume is None else registry.resume
        try:
            self._live = await enter(session, opening)
        except BaseException:
            session.release()
            raise
        if request.results == "latest":
            self.queue.most_results = 1
        self._metrics = self._service.metrics.model(model.name)
        self._metrics.sessions.inc()
        self._metrics.sessions_open.inc()

    async def _conclude(self, request: Reset | Close) -> None:
        """Wait until all that the client sent is scored, then reset or end."""
        await self.queue.wait_for(lambda: self._session.drained)
        if self.queue.ending is not None:
            return  # the rest is never scored here
        if isinstance(request, Reset):
            self._session.reset(request)
        else:
            self._session.close()
            self.queue.end(DONE)

    def _leave(self) -> None:
        """Detach, finish or discard the session; called once."""
        self._quota.remove_session(self.queue)
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
        self._metrics.results_superseded.inc(self.queue.superseded)

    @property
    def _session(self) -> Session:
        assert self._live is not None, "the conversation refuses all before open"
        return self._live.session

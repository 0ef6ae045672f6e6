"""One websocket, from `open` to `closed`. Start reading here.

A connection is two loops around one session:

    reader   socket → conversation (decode, check) → session → engine
    writer   engine → session → mailbox → conversation (encode) → socket

The reader takes the next message only while the session's window and the client's
mailbox have room; meanwhile nobody reads the socket, and the client feels it. The
writer has the last word: whatever ends the session, it sends what waits and closes.

A session outlives its connection, unless one of the two ended it: then the roster
keeps it for the client to come back to.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from fastapi import WebSocket, WebSocketDisconnect
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
from saccade.server.sessions.registry import LiveSession, OpenRequest
from saccade.server.sessions.session import Session
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.rate_limits import ReadThrottle
from saccade.server.transport.send_queue import Ending, Mailbox
from saccade.server.transport.service import Service

LOG: Final = logging.getLogger(__name__)
GONE: Final = Ending(1001, "the client went away")
HUNG_UP: Final = Ending(1000, "the client hung up")
DONE: Final = Ending(1000)


async def stream(websocket: WebSocket, service: Service) -> None:
    """Serve `/v1/stream`: one session on one websocket."""
    await websocket.accept()
    conversation = Conversation(service.limits)
    mailbox = Mailbox(service.settings.outbox_messages, service.metrics.count_refusal)
    service.connect(mailbox)
    connection = Connection(websocket, conversation, mailbox, service)
    reading = asyncio.create_task(connection.read())
    try:
        await connection.write()
    finally:
        service.disconnect(mailbox)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


class Connection:
    """One client's reader and writer."""

    def __init__(
        self,
        websocket: WebSocket,
        conversation: Conversation,
        mailbox: Mailbox,
        service: Service,
    ) -> None:
        self._websocket = websocket
        self._conversation = conversation
        self._mailbox = mailbox
        self._service = service
        self._holder: str = websocket.scope.get(HOLDER, "")
        self._allowance = service.allowances.of(self._holder)
        self._meter = ReadThrottle(self._allowance)
        self._session: Session | None = None
        self._keeper: LiveSession | None = None
        self._refused = False

    async def read(self) -> None:
        """Take the client's messages until the session ends, for whatever reason."""
        try:
            self._meter.charge()
            while (data := await self._receive()) is not None:
                self._meter.charge(size=len(data))
                for request in self._conversation.read(data):
                    await self._obey(request)
        except SessionIdle as error:
            self._mailbox.fail(error)
        except WebSocketDisconnect as error:
            self._mailbox.end(HUNG_UP if error.code == HUNG_UP.close_code else GONE)
        except ProtocolError as error:
            self._refused = True
            self._mailbox.fail(error)
        except Exception:
            LOG.exception("a session failed")
            self._mailbox.fail(InternalError())
        finally:
            self._release()

    async def write(self) -> None:
        """Send the session's messages, then close."""
        try:
            while not isinstance(item := await self._mailbox.next(), Ending):
                await self._send(self._conversation.write(item))
            if item not in {GONE, HUNG_UP}:
                await self._websocket.close(item.close_code, item.reason)
        except (WebSocketDisconnect, RuntimeError):
            LOG.debug("the client went away while it was written to")

    async def _receive(self) -> Wire | None:
        """Wait until there is room for another message, and for it; None at the end."""
        await self._mailbox.until(self._has_room)
        await self._keep_to_the_rate()
        if self._mailbox.ending is not None:
            return None
        message = await self._hear()
        if self._mailbox.ending is not None:
            return None  # the session has moved on without this client
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    async def _hear(self) -> Message:
        """Wait for the client's next message, as long as a silent one may stay.

        Raises:
            SessionIdle: None came, and nothing is left to score for it.
        """
        settings = self._service.settings
        idle_s = settings.open_s if self._session is None else settings.idle_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(idle_s or None):
                    return await self._websocket.receive()
            if self._session is None or self._session.drained:
                raise SessionIdle(idle_s)

    async def _keep_to_the_rate(self) -> None:
        pause_s = self._meter.pause_s
        if pause_s > 0:
            self._service.metrics.paused()
            await self._mailbox.rest(pause_s)

    def _has_room(self) -> bool:
        congested = self._session is not None and self._session.congested
        full = congested or self._mailbox.outbox.full
        return self._mailbox.listening and not full

    async def _send(self, data: Wire) -> None:
        if isinstance(data, str):
            await self._websocket.send_text(data)
        else:
            await self._websocket.send_bytes(data)

    async def _obey(self, request: Request) -> None:
        """Do one thing that the client asked for."""
        match request:
            case Open():
                await self._open(request)
            case Feed(events, size):
                self._metrics.events_received.inc(len(events))
                self._metrics.events_dropped.inc(self._live.feed(events, size))
                self._meter.charge(events=len(events))
            case Reply(message):
                self._service.metrics.count_refusal(message.code)
                self._live.refuse(message)
            case Repeat():
                self._live.repeat()
            case Flush():
                self._live.flush(request)
            case Reset() | Close():
                await self._conclude(request)

    async def _conclude(self, request: Reset | Close) -> None:
        """Wait until all that the client sent is scored, then begin anew or end."""
        await self._mailbox.until(lambda: self._live.drained)
        if self._mailbox.ending is not None:
            return  # it never will be
        if isinstance(request, Reset):
            self._live.reset(request)
        else:
            self._live.close()
            self._mailbox.end(DONE)

    async def _open(self, request: Open) -> None:
        model = self._service.model(request.model)
        roster = self._service.roster
        ends = roster.sink_of(request.resume) if request.resume else None
        self._allowance.take_seat(self._mailbox, instead_of=ends)
        session = Session(self._conversation, model, request, self._mailbox)
        arrival = OpenRequest(request, model, self._mailbox, self._holder)
        enter = roster.begin if request.resume is None else roster.resume
        try:
            self._keeper = await enter(session, arrival)
        except BaseException:
            session.release()
            raise
        if request.results == "latest":
            self._mailbox.outbox.most_results = 1
        self._session = session
        self._metrics = self._service.metrics.model(model.name)
        self._metrics.sessions.inc()
        self._metrics.sessions_open.inc()

    def _release(self) -> None:
        """Leave the session to the roster, or end it; exactly once."""
        self._allowance.leave_seat(self._mailbox)
        if self._session is not None:
            self._part_from(self._session)
            self._metrics.sessions_open.dec()
            self._metrics.results_superseded.inc(self._mailbox.outbox.superseded)

    def _part_from(self, session: Session) -> None:
        if self._keeper is None:
            session.release()
        elif self._mailbox.ending is DONE:
            self._service.roster.finish(self._keeper)
        elif self._refused or self._mailbox.ending is HUNG_UP:
            self._service.roster.discard(self._keeper)
        else:
            self._service.roster.detach(self._keeper)

    @property
    def _live(self) -> Session:
        assert self._session is not None, "the conversation lets nothing before open"
        return self._session

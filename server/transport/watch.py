"""The websocket `/v1/sessions/{session}/watch`: a session's view, and no way back.

A refusal comes before the handshake, with a problem document. What a watcher sends is
read, so that pings are answered, and ignored.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from typing import Final, Protocol
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from saccade.server.logs import log_refusal
from saccade.server.protocol.watching import WatchEnded, encode_watched
from saccade.server.sessions.watch_desk import (
    Collected,
    TooManyWatchers,
    WatchDesk,
    WatchRequest,
)
from saccade.server.sessions.watching import Watch
from saccade.server.transport.elsewhere import Elsewhere
from saccade.server.transport.guard import HOLDER, refuse
from saccade.server.transport.problems import Problem
from saccade.server.transport.routes import no_such_session
from saccade.server.transport.service import Service
from saccade.server.transport.socket import Socket

LOG: Final = logging.getLogger(__name__)
DEFAULT_EVENTS_PER_S: Final = 50_000
MOST_EVENTS_PER_S: Final = 500_000


class Source(Protocol):
    """Where a watcher's messages come from: this process or another."""

    async def collect(self) -> Collected:
        """Wait for what is new; it may be nothing."""

    async def stop(self) -> None:
        """End the watch."""


class Here:
    """A watch of a session with a client in this process."""

    def __init__(self, desk: WatchDesk, watch: Watch, *, text: bool) -> None:
        self._desk = desk
        self._watch = watch
        self._text = text

    async def collect(self) -> Collected:
        """Wait for what is new."""
        return await self._desk.collect(self._watch, text=self._text)

    async def stop(self) -> None:
        """End the watch."""
        self._desk.end(self._watch)


class There:
    """A watch of a session with a client in another process, which has begun.

    Args:
        elsewhere: The other processes.
        name: The watch's name.
        request: What is watched.
        begun: What was collected first.
    """

    def __init__(
        self, elsewhere: Elsewhere, name: str, request: WatchRequest, begun: Collected
    ) -> None:
        self._elsewhere = elsewhere
        self._name = name
        self._request = request
        self._begun: Collected | None = begun

    async def collect(self) -> Collected:
        """Wait for what is new; a process that does not answer has ended."""
        begun, self._begun = self._begun, None
        if begun is not None:
            return begun
        found = await self._elsewhere.watch(self._name, self._request, first=False)
        if found is None:
            last = encode_watched(WatchEnded("away"), text=self._request.text)
            return Collected([last], ended=True)
        return found

    async def stop(self) -> None:
        """End the watch."""
        await self._elsewhere.stop_watch(self._name)


class WatchEndpoint:
    """The ASGI application behind a watch.

    Args:
        service: The state that all connections share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one watcher."""
        try:
            request = self._request(scope)
            source = await self._begin(request)
        except Problem as problem:
            self._service.metrics.count_refusal(problem.code)
            what = f"websocket {scope['path']}"
            log_refusal(scope.get("client"), what, problem.code, str(problem))
            await refuse(problem, scope, receive, send)
            return
        socket = Socket(scope, receive, send)
        try:
            await socket.accept()
            self._service.metrics.watchers.inc()
            try:
                await _serve(socket, source)
            finally:
                self._service.metrics.watchers.dec()
        finally:
            await asyncio.shield(source.stop())

    def _request(self, scope: Scope) -> WatchRequest:
        if self._service.settings.no_watch:
            raise Problem(403, "watching_off", "this server lets no session be watched")
        if self._service.draining:
            raise Problem(503, "not_ready", "the server is stopping")
        holder: str = scope.get(HOLDER, "")
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        return WatchRequest(
            scope["path_params"]["session"],
            holder,
            self._service.keys.sees_all(holder),
            _rate(query.get("max_events_per_s", [str(DEFAULT_EVENTS_PER_S)])[-1]),
            _is_text(query.get("form", ["msgpack"])[-1]),
        )

    async def _begin(self, request: WatchRequest) -> Source:
        """Find the session, here or in another process.

        Raises:
            Problem: There is none for this watcher, or no room for another.
        """
        desk, elsewhere = self._service.desk, self._service.elsewhere
        try:
            watch = desk.begin(request)
            if watch is not None:
                return Here(desk, watch, text=request.text)
            name = secrets.token_hex(16)
            begun = await elsewhere.watch(name, request, first=True)
        except TooManyWatchers as error:
            raise Problem(429, "too_many_watchers", str(error)) from None
        if begun is None:
            raise no_such_session(request.session)
        return There(elsewhere, name, request, begun)


def watch_routes(service: Service) -> APIRouter:
    """Return the route of watching."""
    router = APIRouter()
    path = "/v1/sessions/{session}/watch"
    router.routes.append(WebSocketRoute(path, WatchEndpoint(service)))
    return router


async def _serve(socket: Socket, source: Source) -> None:
    """Send all that comes, until the session or the watcher is gone."""
    sending = asyncio.create_task(_send(socket, source))
    gone = asyncio.create_task(socket.listen(lambda _: True))  # says nothing
    await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
    for task in (sending, gone):
        task.cancel()
        with suppress(asyncio.CancelledError, OSError, RuntimeError):
            await task


async def _send(socket: Socket, source: Source) -> None:
    ended = False
    while not ended:
        messages, ended = await source.collect()
        await socket.send(messages)
    await socket.close(1000, "the session has ended here")


def _rate(text: str) -> int:
    try:
        rate = int(text)
    except ValueError:
        rate = 0
    if not 1 <= rate <= MOST_EVENTS_PER_S:
        detail = f"max_events_per_s is an integer, 1 to {MOST_EVENTS_PER_S}"
        raise Problem(422, "invalid_field", detail, field="max_events_per_s")
    return rate


def _is_text(form: str) -> bool:
    if form not in {"msgpack", "json"}:
        detail = "form is msgpack or json"
        raise Problem(422, "invalid_field", detail, field="form", value=form)
    return form == "json"

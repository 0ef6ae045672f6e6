"""The check of keys and origins before every route.

Where there are keys, every request but those for health needs one. A browser names in
`Origin` the page that makes a request; a page of another origin than the server's own
is refused unless the settings name the origin. A page that is named may read the
answers (CORS).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from saccade.server.logs import current_client, log_refusal, serve_client
from saccade.server.settings import is_loopback
from saccade.server.transport.auth import Keys, TicketOffice
from saccade.server.transport.problems import Problem

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

WITHOUT_KEY: Final = frozenset(
    {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
)
STREAM: Final = "/v1/stream"
PLACEMENT: Final = "/v1/sessions"
WATCH: Final = re.compile(r"/v1/sessions/[^/]+/watch")
PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Content-Encoding",
    "Access-Control-Max-Age": "600",
}
"""What a page of a named origin may ask for."""
HOLDER: Final = "saccade.holder"
"""The key of a scope under which the name of the API key's holder stands."""


class Guard:
    """An ASGI application that passes admitted requests on to another.

    Args:
        app: The application behind the guard.
        keys: The keys; where there are none, no request needs one.
        tickets: The tickets, of which a websocket, or the question where to open one,
            may show one in place of a key.
        origins: Origins admitted beside the server's own, as `https://host:port`.
        count_refusal: Receives the code of each refusal.
    """

    def __init__(
        self,
        app: App,
        keys: Keys,
        tickets: TicketOffice,
        origins: tuple[str, ...],
        count_refusal: Callable[[str], None],
    ) -> None:
        self._app = app
        self._keys = keys
        self._tickets = tickets
        self._origins = frozenset(origins)
        self._count_refusal = count_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with its problem."""
        headers = Headers(scope=scope) if scope["type"] != "lifespan" else Headers({})
        if scope["type"] == "http" and headers.get("origin", "") in self._origins:
            send = partial(_send_readable, headers["origin"], send)
            if _is_preflight(scope, headers):
                await Response(status_code=204, headers=PREFLIGHT)(scope, receive, send)
                return
        guarded = scope["type"] in {"http", "websocket"}
        if guarded:
            serve_client()
        if guarded and scope["path"] not in WITHOUT_KEY:
            problem = await self._problem(scope, headers) or _misdirected(scope)
            if problem is not None:
                self._count_refusal(problem.code)
                what = f"{scope.get('method', 'websocket')} {scope['path']}"
                log_refusal(scope.get("client"), what, problem.code, str(problem))
                await refuse(problem, scope, receive, send)
                return
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}  # the socket's side leaves the body out
        await self._app(scope, receive, send)

    async def _problem(self, scope: Scope, headers: Headers) -> Problem | None:
        origin = headers.get("origin")
        if origin is not None and not self._is_admitted(
            origin, headers.get("host", "")
        ):
            own = urlsplit(origin).netloc == headers.get("host", "")
            keys = "give it keys (`saccade key`), or " if own else ""
            detail = (
                f"pages of {origin} may not use this server: {keys}name them "
                f"with --origins {origin}"
            )
            return Problem(403, "origin_refused", detail)
        if not self._keys:
            return None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        ticket = query.get("ticket", [""])[0]
        if scheme.lower() == "bearer":
            holder = self._keys.holder(key.strip())
            detail = "this server does not know the key that was shown"
        elif ticket and _takes_ticket(scope):
            holder = await self._tickets.use(ticket)
            detail = "the ticket was used, is too old, or is not this server's"
        else:
            holder, detail = None, "a key is needed: Authorization: Bearer KEY"
        if holder is None:
            return Problem(401, "unauthorized", detail)
        scope[HOLDER] = current_client().key = holder
        return None

    def _is_admitted(self, origin: str, host: str) -> bool:
        """Return whether a page of an origin may make requests.

        Where an attacker's domain name resolves to this machine, the page's origin
        equals the host; only a loopback name or a key tells such a page from our own.
        """
        if origin in self._origins:
            return True
        own = urlsplit(origin).netloc == host
        return own and (
            bool(self._keys) or is_loopback(urlsplit(origin).hostname or "")
        )


def _takes_ticket(scope: Scope) -> bool:
    """Return whether a ticket does in place of a key: for a websocket, or its place."""
    places = scope.get("method") == "POST" and scope["path"] == PLACEMENT
    return scope["type"] == "websocket" or places


def _misdirected(scope: Scope) -> Problem | None:
    """Return the answer to a websocket elsewhere, or to a request for the websocket."""
    path = scope["path"]
    has_websocket = path == STREAM or WATCH.fullmatch(path) is not None
    if scope["type"] == "websocket" and not has_websocket:
        detail = f"there is no websocket here: it is at {STREAM}"
        return Problem(404, "no_such_route", detail)
    if scope["type"] == "http" and has_websocket:
        detail = "this is a websocket: ask for it with Upgrade: websocket"
        return Problem(426, "upgrade_required", detail)
    return None


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    asks = "access-control-request-method" in headers
    return scope["method"] == "OPTIONS" and asks


async def _send_readable(
    origin: str, send: Send, message: MutableMapping[str, Any]
) -> None:
    """Send a message of an answer that a page of this origin may read."""
    if message["type"] == "http.response.start":
        headers = MutableHeaders(raw=[*message.get("headers", ())])
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = "Retry-After"
        headers.add_vary_header("Origin")
        message = {**message, "headers": headers.raw}
    await send(message)


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or a websocket's handshake, with a problem document."""
    response = problem.response(scope["path"])
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if problem.status == 426:
        response.headers["Upgrade"] = "websocket"
    if scope["type"] == "http":
        await response(scope, receive, send)
        return
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    start = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "websocket.http.response.start", **start})
    body = {"body": bytes(response.body)}
    await send({"type": "websocket.http.response.body", **body})

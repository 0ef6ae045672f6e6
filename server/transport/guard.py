"""Who may come in: asked before any route, so that none can be forgotten.

Every request but those for health shows a key, where there are keys. A request that a
browser makes for a page says in `Origin` whose page it is, and is refused unless that
is this server's own or one that the settings name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers

from saccade.server.settings import is_loopback
from saccade.server.transport.auth import Keys, Tickets
from saccade.server.transport.problems import Problem

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_TO_ALL: Final = frozenset({"/healthz", "/readyz"})
STREAM: Final = "/v1/stream"
HOLDER: Final = "saccade.holder"
"""Where a scope says who came in; absent where there are no keys."""


class Guard:
    """An ASGI application before another one.

    Args:
        app: What is guarded.
        keys: The keys; none lets everybody in.
        tickets: What a websocket may show in place of a key.
        origins: Whose pages may come in, as `https://host:port`, besides the own.
        refused: Hears the code of each refusal.
    """

    def __init__(
        self,
        app: App,
        keys: Keys,
        tickets: Tickets,
        origins: tuple[str, ...],
        refused: Callable[[str], None],
    ) -> None:
        self._app = app
        self._keys = keys
        self._tickets = tickets
        self._origins = frozenset(origins)
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it with its problem."""
        guarded = scope["type"] in {"http", "websocket"}
        if guarded and scope["path"] not in OPEN_TO_ALL:
            problem = self._problem(scope, Headers(scope=scope))
            if problem is not None:
                self._refused(problem.code)
                await _turn_away(problem, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _problem(self, scope: Scope, headers: Headers) -> Problem | None:
        origin = headers.get("origin")
        if origin is not None and not self._is_welcome(origin, headers.get("host", "")):
            return Problem(
                403, "origin_refused", "pages of this origin may not use this server"
            )
        if not self._keys:
            return None
        holder = self._holder(scope, headers)
        if holder is None:
            detail = "a key is needed: Authorization: Bearer KEY"
            return Problem(401, "unauthorized", detail)
        scope[HOLDER] = holder
        return None

    def _is_welcome(self, origin: str, host: str) -> bool:
        """Tell whether a page may come in.

        A name that an attacker points at this machine makes a page's origin equal to
        its host; only a loopback name, or a key, tells the two apart.
        """
        if origin in self._origins:
            return True
        own = urlsplit(origin).netloc == host
        return own and (
            bool(self._keys) or is_loopback(urlsplit(origin).hostname or "")
        )

    def _holder(self, scope: Scope, headers: Headers) -> str | None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._keys.holder(key.strip())
        if scope["type"] == "websocket" and scope["path"] == STREAM:
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            return self._tickets.use(query.get("ticket", [""])[0])
        return None


async def _turn_away(
    problem: Problem, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer a request, or a websocket's handshake, with a problem document."""
    response = problem.response()
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
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

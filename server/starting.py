"""Answers of a server that is still loading: it is well, and not ready.

Loading JAX and the models takes seconds. Whoever connects meanwhile gets an answer at
once; when the application is there, it takes over.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

LOADING: Final = "the server is loading its models"
RETRY_AFTER_S: Final = 1


class Starting:
    """An ASGI application that stands in for another until that one is loaded.

    Attributes:
        app: The application that answers; None until it is loaded.
    """

    def __init__(self) -> None:
        self.app: App | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif self.app is not None:
            await self.app(scope, receive, send)
        else:
            await _answer(scope, send)


async def _live(receive: Receive, send: Send) -> None:
    """Take part in the framework's start and shutdown: there is nothing to do."""
    while True:
        name = (await receive())["type"]
        await send({"type": f"{name}.complete"})
        if name == "lifespan.shutdown":
            return


async def _answer(scope: Message, send: Send) -> None:
    kind = "http" if scope["type"] == "http" else "websocket.http"
    if kind != "http" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1013})
        return
    status, media_type, document = _document(scope["path"])
    headers = [
        (b"content-type", media_type.encode()),
        (b"retry-after", str(RETRY_AFTER_S).encode()),
    ]
    start = {"status": status, "headers": headers}
    await send({"type": f"{kind}.response.start", **start})
    body = b"" if scope.get("method") == "HEAD" else json.dumps(document).encode()
    await send({"type": f"{kind}.response.body", "body": body})


def _document(path: str) -> tuple[int, str, dict[str, Any]]:
    """Return status, media type and content, as the application's routes form them."""
    if path in {"/healthz", "/readyz"}:
        well = path == "/healthz"
        state = "ok" if well else "unavailable"
        report = {"status": state, "models": {}, "reason": LOADING}
        return 200 if well else 503, "application/json", report
    problem = {
        "type": "urn:saccade:problem:not_ready",
        "title": "Not available",
        "status": 503,
        "detail": f"{LOADING}; try again later",
        "code": "not_ready",
        "retry_after_s": RETRY_AFTER_S,
    }
    return 503, "application/problem+json", problem

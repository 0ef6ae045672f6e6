"""The web page at `/` and the JavaScript SDK under `/web/`, served from the package.

The files hold no secrets, so they are answered without a key, to any origin, and while
the models still load. What the page asks for later passes the guard as any request.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

import saccade

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

FOLDER: Final = Path(saccade.__file__).resolve().parent / "clients" / "web"
PREFIX: Final = "/web/"
PAGE: Final = "page/index.html"

MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
"""The files that are served, by suffix; others, such as package.json, are not."""
NOT_SERVED: Final = frozenset({"node_modules", "test"})
NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")

CONTENT_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "worker-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PROTECTION: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""The headers that bind a browser to what the page needs and nothing else."""
SHARED: Final = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-cache"}


class Page:
    """An ASGI application that answers for the page's files, and passes the rest on.

    Every answer, of the application behind too, forbids a browser to guess its type.

    Args:
        app: The application behind.
        folder: Holds the files.
    """

    def __init__(self, app: App, folder: Path = FOLDER) -> None:
        self._app = app
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        if scope["type"] == "http":
            send = partial(_send_typed, send)
            name = name_of(scope["path"])
            if name is not None:
                await self._answer(name, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _answer(self, name: str, scope: Scope) -> Response:
        if scope["method"] not in {"GET", "HEAD"}:
            detail = "the page's files are only read"
            refusal = _refusal(405, "method_not_allowed", detail)
            refusal.headers["Allow"] = "GET, HEAD"
            return refusal
        content = read(self._folder, name)
        if content is None:
            return _refusal(404, "no_such_route", "there is no such file")
        tag = f'"{sha256(content).hexdigest()[:32]}"'
        headers = {**PROTECTION, **SHARED, "ETag": tag}
        known = Headers(scope=scope).get("if-none-match", "")
        if tag in known:
            return Response(status_code=304, headers=headers)
        media_type = MEDIA_TYPES[Path(name).suffix]
        return Response(content, headers=headers, media_type=media_type)


def name_of(path: str) -> str | None:
    """Return the file that a path asks for, within the folder; None for no file."""
    if path == "/":
        return PAGE
    return path.removeprefix(PREFIX) if path.startswith(PREFIX) else None


def read(folder: Path, name: str) -> bytes | None:
    """Return the content of a file that is served; None for any other name."""
    parts = name.split("/")
    plain = all(NAME.fullmatch(part) and part not in NOT_SERVED for part in parts)
    if not plain or Path(name).suffix not in MEDIA_TYPES:
        return None
    try:
        return folder.joinpath(*parts).read_bytes()
    except OSError:
        return None


def _refusal(status: int, code: str, detail: str) -> Response:
    # Imported late: FastAPI takes a while, and the port is answered before.
    from saccade.server.transport.problems import Problem

    return Problem(status, code, detail).response("/")


async def _send_typed(send: Send, message: MutableMapping[str, Any]) -> None:
    """Send a message of an answer whose type a browser must not guess."""
    if message["type"] == "http.response.start":
        headers = MutableHeaders(raw=[*message.get("headers", ())])
        headers["X-Content-Type-Options"] = "nosniff"
        message = {**message, "headers": headers.raw}
    await send(message)

"""Measures how long requests take, by route and by status of the answer."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, TypeAlias

from starlette.routing import compile_path

from saccade.server.transport.collectors import HistogramCollector

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
OTHER: Final = "other"
"""The label of any other method: clients choose what they send."""
NO_ROUTE: Final = "none"
"""The label of paths that no route has."""
ABANDONED: Final = "499"
"""The status of a request that its client left before the answer began."""


class Measured:
    """An ASGI application that measures the requests of another.

    Labels are taken from the routes and from what this server answers, never from the
    request, so that no client can add a time series.

    Args:
        app: Answers.
        requests: Receives the time of each request, by method, route and status.
        templates: The routes' paths, as `/v1/sessions/{session}`.
    """

    def __init__(
        self, app: App, requests: HistogramCollector, templates: Iterable[str]
    ) -> None:
        self._app = app
        self._requests = requests
        self._patterns = {
            template: re.compile(compile_path(template)[0]) for template in templates
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, and measure its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = ABANDONED
        began_s = time.perf_counter()

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        finally:
            labels = (self._method(scope), self._route(scope["path"]), status)
            self._requests.of(*labels).observe(time.perf_counter() - began_s)

    def _method(self, scope: Message) -> str:
        method: str = scope["method"]
        return method if method in METHODS else OTHER

    def _route(self, path: str) -> str:
        for template, pattern in self._patterns.items():
            if pattern.match(path):
                return template
        return NO_ROUTE

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn

from saccade.server.app import create_app, create_service
from saccade.server.serving import configuration, url
from saccade.server.settings import Settings, advertised
from saccade.server.transport.service import Service
from tests.toy import toy_model, wait_until
from tests.wire import Client, client_of


class Server:
    """A real server on a real port, in a thread of the test."""

    def __init__(
        self, service: Service, base: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.service = service
        self.base = base
        self.loop = loop

    @contextmanager
    def client(self, **options: Any) -> Iterator[Client]:
        with client_of(self.base, **options) as client:
            yield client


@contextmanager
def serving(
    *models: Any, wait: Callable[[Service], bool] | None = None, **settings: Any
) -> Iterator[Server]:
    chosen = {"slots": 6, "buckets": ((1, 1), (1, 64), (4, 4)), "port": 0}
    chosen |= {"store": "memory", **settings}
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    settings_now = advertised(Settings(**chosen), listener.getsockname()[1])
    service = create_service(settings_now, models or (toy_model(),))
    http = uvicorn.Server(configuration(create_app(service), service.settings))
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await http.serve(sockets=[listener])

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        wait_until(lambda: http.started)
        if wait is None:
            wait_until(lambda: service.engine.health.ready)
        yield Server(
            service, url(http.servers[0].sockets[0], tls=http.config.is_ssl), loops[0]
        )
    finally:
        http.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


Serve = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server for the tests that leave it whole."""
    with serving() as running:
        yield running


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start a server of the test's own."""
    with ExitStack() as stack:
        yield lambda *models, **settings: stack.enter_context(
            serving(*models, **settings)
        )

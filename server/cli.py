"""`saccade serve`: settings, models, and uvicorn around the application."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import uvicorn

from saccade.server.logs import configure_logs
from saccade.server.settings import Settings, help_text, option
from saccade.server.transport.auth import digest_of, new_key
from saccade.server.transport.coalescing import CoalescingProtocol

if TYPE_CHECKING:
    from saccade.server.transport.service import Service

RECONNECT_AFTER_MS: Final = 2000
PING_S: Final = 20.0
PONG_S: Final = 60.0
"""Long, because a ping waits behind what a slow client has not read yet."""


def serve(argv: Sequence[str] | None = None) -> int:
    """Run the server until a stop signal; return the exit status."""
    arguments = parser().parse_args(argv)
    configure_logs()
    try:
        settings = Settings.read(os.environ, option_texts(arguments))
    except ValueError as error:
        sys.stderr.write(f"saccade serve: {error}\n")
        return 2
    started_s = time.perf_counter()
    _prepare_environment(settings)
    # Imported late: a mistaken option is answered at once, without loading JAX.
    from saccade.model.checkpoint import CheckpointError
    from saccade.server.app import create_service
    from saccade.server.engine.compiled import keep_compiled
    from saccade.server.engine.loading import load_models
    from saccade.server.sessions.stores.store import StoreUnavailable

    try:
        service = create_service(
            settings, load_models(settings.models, settings.execution)
        )
    except (CheckpointError, StoreUnavailable, ValueError) as error:
        sys.stderr.write(f"saccade serve: {error}\n")
        return 1
    keep_compiled(settings.compiled)
    return asyncio.run(run(service, started_s))


def _prepare_environment(settings: Settings) -> None:
    """Set the variables that JAX and numba read when they are first imported."""
    # XLA takes its own tuning hints in a kept executable for features that this CPU
    # lacks and warns at length, each time. Whether to use it, the canary decides.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("NUMBA_CACHE_DIR", str(settings.compiled / "native"))


def key(argv: Sequence[str] | None = None) -> int:
    """Make an API key; print the line for the server's file, and the key itself."""
    options = argparse.ArgumentParser(prog="saccade key", description=key.__doc__)
    options.add_argument("name", help="name of the key's holder")
    name = options.parse_args(argv).name
    if ":" in name or "#" in name or "," in name:
        options.error("a name has no ':', ',' or '#'")
    secret = new_key()
    sys.stdout.write(f"{name}:{digest_of(secret)}\n")
    sys.stderr.write(f"the key, shown only now (SACCADE_KEY): {secret}\n")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with an option for each setting."""
    result = argparse.ArgumentParser(prog="saccade serve", description=serve.__doc__)
    types = get_type_hints(Settings)
    for item in fields(Settings):
        kind = types[item.name]
        options: dict[str, Any] = {}
        if kind is bool:
            options = {"action": "store_const", "const": "true"}
        elif kind == tuple[Path, ...]:
            options = {"action": "append"}
        if item.metadata["option"]:
            options |= {"dest": item.name, "help": help_text(item, kind)}
            result.add_argument(option(item), **options)
    return result


def option_texts(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Return each option's text as its environment variable would hold it."""
    return {
        name: ",".join(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
    }


async def run(service: Service, started_s: float) -> int:
    """Serve until a stop signal, then drain the sessions; return the exit status."""
    from saccade.server.app import create_app

    server = uvicorn.Server(configuration(create_app(service), service.settings))
    serving = asyncio.create_task(server.serve())
    announcing = asyncio.create_task(announce(server, service, started_s))
    stopping = asyncio.create_task(stop_on_signal(server, service))
    try:
        await serving
    except SystemExit as error:  # uvicorn could not listen
        return int(error.code or 1)
    finally:
        announcing.cancel()
        stopping.cancel()
        await asyncio.gather(announcing, stopping, return_exceptions=True)
    return 0


def configuration(app: object, settings: Settings) -> uvicorn.Config:
    """Return the configuration of uvicorn for the application."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=settings.host,
        port=settings.port,
        ws=CoalescingProtocol,
        ws_per_message_deflate=False,
        # Above our own limit, so that a frame too large gets a typed error first.
        ws_max_size=2 * settings.max_frame_bytes,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PONG_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_keyfile_password=settings.tls_key_password,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )


async def announce(server: uvicorn.Server, service: Service, started_s: float) -> None:
    """Print once, in one line, that the server is ready or why it never will be."""
    await until(lambda: service.engine.health.ready or service.engine.health.failed)
    await until(lambda: server.started)
    if service.engine.health.failed:
        sys.stderr.write(f"saccade serve: {service.engine.health.reason}\n")
        return
    names = ", ".join(service.catalogue.current)
    seconds = time.perf_counter() - started_s
    sys.stdout.write(
        f"Saccade serves {names} on {url(server)} (ready in {seconds:.1f} s)\n"
    )
    sys.stdout.flush()


async def stop_on_signal(server: uvicorn.Server, service: Service) -> None:
    """On a signal, drain the sessions, then stop uvicorn; a second one forces.

    uvicorn's own handlers would close every socket before the application's shutdown
    begins, so they are replaced as soon as uvicorn has installed them.
    """
    await until(lambda: server.started)
    signals: asyncio.Queue[None] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, None)
    await signals.get()
    draining = asyncio.create_task(service.drain(RECONNECT_AFTER_MS))
    again = asyncio.create_task(signals.get())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    server.force_exit = again.done()
    server.should_exit = True
    draining.cancel()
    again.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Poll a condition of uvicorn's or of another thread's, which cannot be awaited."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def url(server: uvicorn.Server) -> str:
    """Return the address that a started server listens on."""
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    scheme = "https" if server.config.is_ssl else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

"""One process that serves: uvicorn around the application, from start to drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from asyncio import Task
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import uvicorn

from saccade.server.cpu_time import THREADS, cpu_time, variables as cpu_variables
from saccade.server.device_memory import needed_bytes
from saccade.server.devices import NoDevice, choose, variables
from saccade.server.engine.native_code import NativeCompiler, worth_compiling
from saccade.server.event_loop import freeze_start
from saccade.server.logs import JOURNAL, about, logs_json, tell, toggle_level
from saccade.server.progress import Progress, ProgressLine, ProgressLog
from saccade.server.settings import Settings
from saccade.server.starting import Starting
from saccade.server.transport.coalescing import CoalescingProtocol
from saccade.server.transport.inbox import ReadTurns
from saccade.server.transport.page import App, Page

if TYPE_CHECKING:
    from saccade.server.engine.health import Health
    from saccade.server.engine.model_registry import ServedModel
    from saccade.server.transport.service import Service

RECONNECT_AFTER_MS: Final = 2000
POLL_S: Final = 0.02
PING_S: Final = 20.0
NO_DEVICE_STATUS: Final = 2
"""Exit status where a device that was asked for is not there: a setting is wrong."""

LOST_STATUS: Final = 75
"""Exit status of a process that has lost its device: EX_TEMPFAIL, start it again."""

PONG_S: Final = 60.0
"""Long, because a ping waits behind what a slow client has not read yet."""


class CannotServe(Exception):
    """The models, the store or the keys cannot be used; says which, and why.

    Args:
        reason: The sentence.
        status: The process's exit status.
    """

    def __init__(self, reason: str, status: int = 1) -> None:
        super().__init__(reason)
        self.status = status


def use_cpu_time(environment: MutableMapping[str, str]) -> None:
    """Let XLA start no more threads than this process's CPU time is for.

    Args:
        environment: The process's, before JAX is imported.
    """
    time = cpu_time()
    environment.update(cpu_variables(time, environment))
    if time.quota is not None:
        threads = environment.get(THREADS, time.threads)
        facts = about("cpu_time", cores=time.cores, quota=time.quota)
        JOURNAL.info("may use %s, on %s threads", time, threads, extra=facts)


def set_environment(folder: Path) -> None:
    """Set what JAX and numba read when they are imported, here and in children.

    Args:
        folder: Keeps what is compiled.
    """
    # XLA takes its own tuning hints in a kept executable for features that this CPU
    # lacks and warns at length, each time. Whether to use it, the canary decides.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "native"))


def use_devices(settings: Settings, environment: MutableMapping[str, str]) -> Settings:
    """Choose the devices and set what JAX finds them by, here and in children.

    Args:
        settings: What the user asked for.
        environment: The process's, before JAX is imported.

    Returns:
        The settings, with the devices that are used.

    Raises:
        CannotServe: A device that was asked for cannot be used.
    """
    try:
        choice = choose(settings.device, environment)
    except NoDevice as error:
        raise CannotServe(str(error), NO_DEVICE_STATUS) from error
    environment.update(variables(choice, environment, needed_bytes(settings)))
    level = logging.WARNING if choice.warning else logging.INFO
    JOURNAL.log(
        level,
        "runs the models on %s: %s",
        choice.devices,
        choice.reason,
        extra=about("device", devices=str(choice.devices)),
    )
    return replace(settings, device=choice.devices)


def compile_beside(settings: Settings, stack: ExitStack) -> NativeCompiler | None:
    """Have another process compile native code, if it is not kept yet.

    Args:
        settings: The server's.
        stack: Ends the process.
    """
    native = Path(os.environ["NUMBA_CACHE_DIR"])
    on_cpu = settings.device.platform == "cpu"
    if not (on_cpu and worth_compiling(native, settings.execution)):
        return None
    return stack.enter_context(NativeCompiler.start(native))


def load_served(
    settings: Settings, folder: Path, compiler: NativeCompiler | None
) -> list[ServedModel]:
    """Load JAX and the models.

    Args:
        settings: The server's.
        folder: Keeps what is compiled.
        compiler: Compiles native code meanwhile, if any process does.

    Raises:
        CannotServe: A checkpoint cannot be used, or JAX does not have the devices.
    """
    # Imported late: the port is taken and health is answered before.
    from saccade.model.checkpoint import CheckpointError
    from saccade.server.engine.accelerators import find_devices
    from saccade.server.engine.compiled import keep_compiled
    from saccade.server.engine.loading import load_models
    from saccade.server.engine.measuring import measure_beside

    keep_compiled(folder)  # before JAX compiles anything, for it looks only then
    try:
        find_devices(settings.device)
        choices = settings.execution, compiler, folder, settings.precisions
        models = load_models(settings.folders, *choices)
    except NoDevice as error:
        raise CannotServe(str(error), NO_DEVICE_STATUS) from error
    except (CheckpointError, ValueError) as error:
        raise CannotServe(str(error)) from error
    measure_beside(models, folder)
    return models


def load_service(
    settings: Settings, folder: Path, compiler: NativeCompiler | None
) -> Service:
    """Load the models; return the service of one process, which does not run yet.

    Raises:
        CannotServe: A checkpoint, a device, the store or the keys cannot be used.
    """
    from saccade.server.app import create_service
    from saccade.server.sessions.stores.store import StoreUnavailable

    models = load_served(settings, folder, compiler)
    try:
        return create_service(settings, models)
    except (StoreUnavailable, ValueError) as error:
        raise CannotServe(str(error)) from error


async def run(
    settings: Settings,
    sockets: list[socket.socket],
    load: Callable[[], Service],
    started_s: float,
) -> int:
    """Serve until a stop signal, then drain the sessions; return the exit status.

    Args:
        settings: The server's.
        sockets: Listen already.
        load: Returns the service; called on another thread, while health is answered.
        started_s: When the start began, by `time.perf_counter`.

    Raises:
        CannotServe: The service cannot be loaded.
    """
    front = Starting()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, toggle_level)
    server = uvicorn.Server(configuration(front, settings))
    serving = asyncio.create_task(server.serve(sockets))
    loading = asyncio.create_task(asyncio.to_thread(load))
    stopping = asyncio.create_task(stop_on_signal(server, loading))
    try:
        await show_loading(serving, loading)
        lost = False
        if loading.done():
            lost = await serve_loaded(
                server, serving, front, loading.result(), started_s
            )
    finally:
        server.should_exit = True
        await serving
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
    JOURNAL.info("has stopped", extra=about("stopped"))
    return LOST_STATUS if lost else 0


def progress() -> Progress:
    """Return what shows the start's stages: a line on the terminal, or in the log."""
    if logs_json():
        return ProgressLog(partial(tell, "loading"))
    return ProgressLine(sys.stderr)


async def show_loading(serving: Task[None], loading: Task[Service]) -> None:
    """Wait until the service is loaded, or a signal ends the server before."""
    with progress() as line:
        line.show("loading the models")
        await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)


async def serve_loaded(
    server: uvicorn.Server,
    serving: Task[None],
    front: Starting,
    service: Service,
    started_s: float,
) -> bool:
    """Put a loaded service behind a running server, until that stops.

    Returns:
        Whether it stopped because the process has lost its device.
    """
    from saccade.server.app import create_app, running

    loss = stop_on_loss(server, service)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(service))
        front.app = create_app(service)
        announcing = asyncio.create_task(announce(server, service, started_s))
        await asyncio.wait({serving})
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
        if server.force_exit:
            stack.pop_all()  # nothing is waited for
        lost = loss.done()
        loss.cancel()
    return lost


def stop_on_loss(server: uvicorn.Server, service: Service) -> Task[None]:
    """Stop the server once its process cannot use the device any more.

    The sessions are saved as far as they can be. The next process resumes them.

    Returns:
        A task that is done once that has happened.
    """
    from saccade.server.engine.engine import Engine

    assert isinstance(service.engine, Engine)
    loop, lost = asyncio.get_running_loop(), asyncio.Event()

    def lose() -> None:
        loop.call_soon_threadsafe(lost.set)

    async def stop() -> None:
        await lost.wait()
        JOURNAL.error(
            "stops: the device is lost; another process is to take over",
            extra=about("stopping"),
        )
        try:
            await service.leave_device()
        finally:
            server.should_exit = True

    service.engine.when_lost(lose)
    return asyncio.create_task(stop())


def configuration(app: App, settings: Settings) -> uvicorn.Config:
    """Return the configuration of uvicorn for the application and the page."""
    return uvicorn.Config(
        Page(app),
        ws=cast(type[asyncio.Protocol], partial(CoalescingProtocol, ReadTurns())),
        ws_per_message_deflate=False,
        # Above our own limit, so that a frame too large gets a typed error first.
        ws_max_size=2 * settings.max_frame_bytes,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PONG_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_keyfile_password=settings.tls_key_password,
        log_config=None,  # `configure_logs` has done it
        log_level="warning",
        timeout_graceful_shutdown=2,
    )


async def announce(server: uvicorn.Server, service: Service, started_s: float) -> None:
    """Print once, in one line, that the server is ready or why it never will be."""
    await until(lambda: server.started)
    await show_progress(lambda: service.engine.health)
    if service.engine.health.failed:
        tell("cannot_serve", service.engine.health.reason, logging.ERROR)
        return
    freeze_start()
    address = url(server.servers[0].sockets[0], tls=server.config.is_ssl)
    say_ready(service.catalogue.current, address, started_s)


async def show_progress(health: Callable[[], Health]) -> None:
    """Show what is being compiled until all is, or a model is lost."""
    with progress() as line:
        while not ((now := health()).ready or now.failed):
            model, part = now.compiling
            if model:
                line.show(f"compiling {model}", part)
            await asyncio.sleep(POLL_S)


def say_ready(models: Iterable[str], address: str, started_s: float) -> None:
    """Print the one line that says where which models are served."""
    names, seconds = ", ".join(models), time.perf_counter() - started_s
    sys.stdout.write(
        f"Saccade serves {names} on {address} (ready in {seconds:.1f} s)\n"
    )
    sys.stdout.flush()
    facts = about("ready", models=names, address=address, seconds=seconds)
    JOURNAL.info("serves %s on %s", names, address, extra=facts)


async def stop_on_signal(server: uvicorn.Server, loading: Task[Service]) -> None:
    """On a signal, drain the sessions, then stop uvicorn; a second one forces.

    uvicorn's own handlers would close every socket before the application's shutdown
    begins, so they are replaced as soon as uvicorn has installed them.
    """
    await until(lambda: server.started)
    signals: asyncio.Queue[None] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, None)
    await signals.get()
    JOURNAL.info("stops: a signal came", extra=about("stopping"))
    if not loading.done():
        server.should_exit = True
        return
    draining = asyncio.create_task(loading.result().drain(RECONNECT_AFTER_MS))
    again = asyncio.create_task(signals.get())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    server.force_exit = again.done()
    server.should_exit = True
    draining.cancel()
    again.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Poll a condition of uvicorn's or of another thread's, which cannot be awaited."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)


def url(listening: socket.socket, *, tls: bool) -> str:
    """Return the address that a socket listens on."""
    host, port = listening.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

"""The process that owns a device: the engine, and the channels of the workers.

It ends with its supervisor. It has no sockets that a client could reach.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from saccade.server.background import Background
from saccade.server.engine.health import Health
from saccade.server.engine.model_registry import Catalogue, ServedModel
from saccade.server.engine.outputs import DeviceOutput
from saccade.server.engine.ticks import TickArena
from saccade.server.event_loop import freeze_start, run_loop
from saccade.server.logs import about, set_level
from saccade.server.serving import (
    LOST_STATUS,
    CannotServe,
    compile_beside,
    load_served,
)
from saccade.server.settings import Settings
from saccade.server.telemetry.spans import EngineSpans, Telemetry, open_telemetry
from saccade.server.transport.metrics import Metrics
from saccade.server.transport.overview import devices_here, loads_of
from saccade.server.workers import channel
from saccade.server.workers.assignment import Assignment, end_with_supervisor
from saccade.server.workers.framing import FrameProtocol
from saccade.server.workers.link import CHANNEL, PAGES, ModelFacts
from saccade.server.workers.merged_metrics import families_of
from saccade.server.workers.peer import Peer

if TYPE_CHECKING:
    from saccade.server.engine.device_group import DeviceGroup
    from saccade.server.engine.engine import Engine

LOG: Final = logging.getLogger(__name__)
WATCH_S: Final = 0.05
TELLING: Final = "the report of the engine's health"
HEADER_BYTES: Final = 1 << 16


class Channels:
    """The connections of the workers to one engine.

    Args:
        devices: The engine's.
        health: Returns every model's state now.
        facts: Returns what workers know of the models.
        spans: Of the engine.
    """

    def __init__(
        self,
        devices: DeviceGroup,
        health: Callable[[], Health],
        facts: Callable[[], list[ModelFacts]],
        spans: EngineSpans,
    ) -> None:
        self._devices = devices
        self._spans = spans
        self._health = health
        self._facts = facts
        self._next_port = 1  # 0 is the port of the engine's own process
        self._ports: dict[int, FrameProtocol] = {}
        self._workers: dict[int, int] = {}
        self._streams: dict[int, dict[str, int]] = {}

    def new(self) -> FrameProtocol:
        """Return the protocol of another connection."""
        port = self._next_port
        self._next_port += 1
        frames = FrameProtocol(partial(self._receive, port), partial(self._lost, port))
        self._ports[port] = frames
        return frames

    def close(self) -> None:
        """End all connections."""
        for frames in [*self._ports.values()]:
            frames.close()

    def streams(self, model: str) -> int:
        """Return how many streams of a model are open in all workers."""
        return sum(counts.get(model, 0) for counts in self._streams.values())

    def send_all(self, kind: int, content: Any) -> None:
        """Send a message to every worker."""
        message = channel.encode(kind, content)
        for frames in self._ports.values():
            frames.send(message)

    def _receive(self, port: int, message: bytes) -> None:
        kind, *content = channel.decode(message)
        if kind == channel.COMMANDS:
            self._devices.send(port, content[0])
        elif kind == channel.STREAMS:
            self._streams[port] = content[0]
        elif kind == channel.TRACE:
            self._spans.expect(port, *content)
        elif kind == channel.HELLO:
            self._welcome(port, content[0])

    def _welcome(self, port: int, index: int) -> None:
        """Serve a worker; one that had its number has ended, and its slots are free."""
        if (old := self._workers.get(index)) is not None:
            self._lost(old)
        self._workers[index] = port
        loop = asyncio.get_running_loop()

        def deliver(outputs: list[DeviceOutput]) -> None:
            loop.call_soon_threadsafe(self._send_outputs, port, outputs)

        self._devices.connect(port, self._spans.watched(port, deliver))
        facts = [list(each) for each in self._facts()]
        health = channel.health_to_plain(self._health())
        self._ports[port].send(channel.encode(channel.WELCOME, port, facts, health))

    def _send_outputs(self, port: int, outputs: list[DeviceOutput]) -> None:
        if port in self._ports:
            self._ports[port].send(channel.encode_outputs(outputs))

    def _lost(self, port: int) -> None:
        if self._ports.pop(port, None) is not None:
            self._devices.disconnect(port)
            self._streams.pop(port, None)


def take_pages(
    listening: socket.socket, add_arena: Callable[[int, str, TickArena], None]
) -> None:
    """Map the memory of the workers' pages, until the socket is shut down."""
    while True:
        try:
            way, _ = listening.accept()
        except OSError:
            return
        with way:
            try:
                data, files, _, _ = socket.recv_fds(way, HEADER_BYTES, 1)
                port, model, tick_events, classes, pages = json.loads(data)
                arena = TickArena(tick_events, classes, pages, files[0])
                os.close(files[0])
                add_arena(port, model, arena)
                way.send(b"1")
            except Exception:  # the worker sees no answer, and connects again
                facts = about("engine_lost")
                LOG.exception("a worker's pages cannot be mapped", extra=facts)


class News:
    """Notices each change of an engine's health and models once.

    Args:
        health: Returns every model's state now, and what else concerns.
        facts: Returns what workers know of the models.
    """

    def __init__(
        self, health: Callable[[], Health], facts: Callable[[], list[ModelFacts]]
    ) -> None:
        self._read_health = health
        self._read_facts = facts
        self._health: Health | None = None
        self._facts: list[ModelFacts] = []

    def health(self) -> Health | None:
        """Return the health where it has changed."""
        now = self._read_health()
        if now == self._health:
            return None
        self._health = now
        return now

    def facts(self) -> list[ModelFacts] | None:
        """Return the facts where they have changed."""
        now = self._read_facts()
        if now == self._facts:
            return None
        self._facts = now
        return now


class EngineProcess:
    """The engine and its channels, from loading to the end.

    Args:
        settings: The server's.
        folder: Keeps what is compiled.
        sockets: Holds the sockets for workers.
    """

    def __init__(self, settings: Settings, folder: Path, sockets: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._sockets = sockets
        self._metrics: Metrics | None = None
        self._engine: Engine | None = None
        self._catalogue = Catalogue([])
        self._ended = asyncio.Event()
        self._supervisor = Peer(
            {"tell_counts": self._tell_counts, "overview": self._overview},
            {"stop": self._ended.set, "log_level": set_level},
            end_with_supervisor,
        )

    async def run(self, supervisor: socket.socket) -> int:
        """Load, serve the workers until the supervisor says stop; return the status."""
        peer = self._supervisor
        await peer.connect(supervisor)
        with ExitStack() as stack:
            compiler = compile_beside(self._settings, stack)
            load = partial(load_served, self._settings, self._folder, compiler)
            try:
                telemetry = open_telemetry(self._settings, "engine")
                models = await asyncio.to_thread(load)
            except CannotServe as error:
                await peer.call("cannot_serve", str(error), error.status)
                return 1
            except ValueError as error:
                await peer.call("cannot_serve", str(error))
                return 1
            await self._serve(peer, models, telemetry)
            await telemetry.close()
        return 0

    async def _serve(
        self, peer: Peer, models: list[ServedModel], telemetry: Telemetry
    ) -> None:
        from saccade.server.app import create_engine
        from saccade.server.reloading import RELOADING, Reloading

        self._catalogue = Catalogue(models)
        self._metrics = metrics = Metrics(models)
        spans = telemetry.engine_spans()
        engine = create_engine(self._settings, models, spans.observed(metrics))
        metrics.watch(engine)
        metrics.watch_devices(lambda: engine.use)
        self._engine = engine
        background = Background(metrics.note_background)

        def health() -> Health:
            now = engine.health
            return replace(now, concerns=(*now.concerns, *background.concerns))

        channels = Channels(engine.devices, health, self._facts, spans)
        self._listen_for_pages(engine.devices.add_arena)
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(
            channels.new, str(self._sockets / CHANNEL)
        )
        engine.when_lost(_end_at_once)
        engine.start(_drop)
        news = News(health, self._facts)
        telemetry.repeat(background, metrics.registry)
        background.repeat(TELLING, WATCH_S, partial(self._tell, news, channels, peer))
        if self._settings.reload_s > 0:
            parts = (self._catalogue, engine, metrics, channels.streams)
            reloading = Reloading(*parts, self._settings.session_ttl_s)
            background.repeat(RELOADING, self._settings.reload_s, reloading.look)
        await self._ended.wait()
        background.stop()
        server.close()
        await asyncio.to_thread(engine.stop)

    def _listen_for_pages(self, add_arena: Callable[..., None]) -> None:
        path = self._sockets / PAGES
        path.unlink(missing_ok=True)  # of an engine process that has ended
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(
            target=take_pages, args=(listening, add_arena), name="pages", daemon=True
        )
        thread.start()

    async def _tell(self, news: News, channels: Channels, peer: Peer) -> None:
        """Send every change of health and models to the workers and the supervisor."""
        if (health := news.health()) is not None:  # of a new model before the model
            if health.ready:
                freeze_start()
            plain = channel.health_to_plain(health)
            channels.send_all(channel.HEALTH, plain)
            peer.tell("health", plain, [*self._catalogue.current])
        if (facts := news.facts()) is not None:
            channels.send_all(channel.MODELS, [list(each) for each in facts])

    def _facts(self) -> list[ModelFacts]:
        current = self._catalogue.current.values()
        old: Iterable[ServedModel] = self._catalogue.older
        return [
            *(ModelFacts.of(model, current=True) for model in current),
            *(ModelFacts.of(model, current=False) for model in old),
        ]

    async def _overview(self, holder: str, everyone: bool) -> dict[str, Any]:  # noqa: FBT001
        """Return the engine's part of the overview, which is nobody's."""
        use = [] if self._engine is None else self._engine.use
        return {"devices": devices_here(), "engine_devices": loads_of(use)}

    async def _tell_counts(self) -> None:
        """Tell what is counted here; it is known when the answer of this call comes."""
        if self._metrics is not None:
            self._supervisor.tell("counted", families_of(self._metrics.registry))


def main(assignment: Assignment, supervisor: socket.socket) -> int:
    """Run the engine process."""
    folders = (assignment.compiled, assignment.sockets)
    return run_loop(_run(assignment.settings, *folders, supervisor))


async def _run(
    settings: Settings, compiled: Path, sockets: Path, supervisor: socket.socket
) -> int:
    return await EngineProcess(settings, compiled, sockets).run(supervisor)


def _end_at_once() -> None:
    """Leave the lost device to the next engine process; nothing of it can be saved."""
    os._exit(LOST_STATUS)


def _drop(_: list[DeviceOutput]) -> None:
    """Discard the outputs of a front end that does not exist."""

"""A worker's way to the engine process: an `EngineLink` over a Unix socket.

When the engine process ends, every session with a slot fails as it would with an engine
in this process, and comes back from its snapshot. The link then waits for the next
engine process and gives it the memory of new pages.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from saccade.model.tokens import TimestepConvention, Tokenization
from saccade.server.engine.client import EngineClient
from saccade.server.engine.commands import Command
from saccade.server.engine.engine_link import ModelShape
from saccade.server.engine.errors import EngineError, EngineFailed, NotReady
from saccade.server.engine.frontend import Frontend
from saccade.server.engine.health import Health, ModelHealth
from saccade.server.engine.model_registry import Canary, Servable, ServedModel
from saccade.server.engine.outputs import Deliver, DeviceOutput, DeviceUse, Observer
from saccade.server.engine.ticks import TickArena
from saccade.server.logs import about
from saccade.server.workers import channel
from saccade.server.workers.framing import FrameProtocol

LOG: Final = logging.getLogger(__name__)
RETRY_S: Final = 0.05
PAGES_S: Final = 5.0
"""How long the engine process may take to map a model's pages."""

ENDED: Final = "its process has ended"

CHANNEL: Final = "engine.sock"
PAGES: Final = "pages.sock"
"""Names of the engine's sockets: messages, and the memory of pages."""


class ModelFacts(NamedTuple):
    """What a worker knows of a model: enough to tokenize for it and to describe it.

    Attributes:
        name: The name that clients open the model by.
        version: Tells apart models of one name.
        tick_events: Events per tick.
        labels: The classes' names, in the order of the logits.
        tokenization: As `Tokenization.to_dict` writes it.
        timestep: Which gap goes with an event.
        content_hash: Hash of the checkpoint.
        current: Whether new sessions of the name get this version.
    """

    name: str
    version: str
    tick_events: int
    labels: list[str]
    tokenization: dict[str, Any]
    timestep: TimestepConvention
    content_hash: str
    current: bool

    @classmethod
    def of(cls, model: ServedModel, *, current: bool) -> Self:
        """Return the facts of a model that this process has loaded."""
        return cls(
            model.name,
            model.servable.version,
            model.tick_events,
            list(model.labels),
            model.tokenization.to_dict(),
            model.timestep,
            model.content_hash,
            current,
        )

    def served(self) -> ServedModel:
        """Return the model without its weights."""
        servable = Servable(
            name=self.name,
            tick_events=self.tick_events,
            classes=len(self.labels),
            weights=None,
            fresh=_elsewhere,
            advance=_elsewhere,
            canary=Canary([], [], []),  # type: ignore[arg-type]
            version=self.version,
        )
        return ServedModel(
            servable,
            tuple(self.labels),
            Tokenization.from_dict(self.tokenization),
            self.timestep,
            self.content_hash,
        )

    @property
    def shape(self) -> ModelShape:
        """What a front end must know of the model."""
        return ModelShape(self.served().key, self.tick_events, len(self.labels))


class RemoteEngine:
    """The engine process, as a worker uses it.

    Args:
        folder: Holds the engine's sockets.
        index: The worker's number.

    Attributes:
        streams: The worker's streams; set before `start`.
        on_models: Called with the facts of all models when they have changed.
        on_lost: Called when the engine process has ended, before its streams fail.
    """

    def __init__(self, folder: Path, index: int) -> None:
        self._folder = folder
        self._index = index
        self._port = -1
        self._deliver: Deliver = _drop
        self._health = Health({})
        self._frames: FrameProtocol | None = None
        self._arenas: dict[str, TickArena] = {}
        self._files: dict[int, int] = {}
        self._welcomed: asyncio.Future[list[ModelFacts]] | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self.streams: EngineClient | None = None
        self.on_models: Callable[[list[ModelFacts]], None] = _drop
        self.on_lost: Callable[[], None] = _ignore

    @property
    def health(self) -> Health:
        """Every model's state, as the engine process last told it."""
        return self._health

    @property
    def use(self) -> list[DeviceUse]:
        """Nothing: the engine process tells what its devices do."""
        return []

    def slots_used(self, model: str) -> int:
        """Return how many of this worker's slots of a model are leased."""
        return 0 if self.streams is None else self._frontend.slots_used(model)

    def ticks_waiting(self, model: str) -> int:
        """Return 0: the engine process counts what waits in its queues."""
        return 0

    async def connect(self) -> list[ModelFacts]:
        """Connect to the engine process, once there is one; return its models."""
        loop = asyncio.get_running_loop()
        while True:
            self._welcomed = loop.create_future()
            frames = FrameProtocol(self._receive, self._lost)
            path = str(self._folder / CHANNEL)
            try:
                await loop.create_unix_connection(lambda: frames, path)  # noqa: B023
            except OSError:
                await asyncio.sleep(RETRY_S)
                continue
            self._frames = frames
            frames.send(channel.encode(channel.HELLO, self._index))
            try:
                return await self._welcomed
            except EngineError:  # the process ended at once
                await asyncio.sleep(RETRY_S)

    def close(self) -> None:
        """Leave the engine; its process ends this worker's sessions."""
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        if self._frames is not None:
            frames, self._frames = self._frames, None
            frames.close()

    # As an `EngineLink`.

    def start(self, deliver: Deliver) -> None:
        """Deliver outputs from now on, on the event loop."""
        self._deliver = deliver

    def new_arena(self, tick_events: int, classes: int, pages: int) -> TickArena:
        """Return pages in memory that the engine process may share."""
        file = _memory_file()
        arena = TickArena(tick_events, classes, pages, file)
        self._files[id(arena)] = file
        return arena

    def add_arena(self, model: str, arena: TickArena) -> None:
        """Give the engine process the memory of a model's pages, now or once it is."""
        old = self._arenas.get(model)
        if old is not None and (file := self._files.pop(id(old), None)) is not None:
            os.close(file)
        self._arenas[model] = arena
        if self._frames is not None:
            self._share(model)

    def send(self, commands: list[Command]) -> None:
        """Send commands; without an engine their sessions have failed already."""
        if self._frames is not None:
            self._frames.send(channel.encode_commands(commands))

    def score_now(self, *_: Any) -> None:
        """Return None: another process has the rows; see `EngineLink.score_now`."""

    def check(self, model: str, device: int) -> None:
        """Raise if a model takes no sessions on a device now.

        Raises:
            NotReady: It does not yet, or no more.
            EngineFailed: The model is lost.
        """
        health = self._health.models.get(model, ModelHealth("starting", ENDED))
        if health.state == "failed":
            raise EngineFailed(health.reason)
        if device in self._health.lost.get(model, ()):
            raise EngineFailed("the model is lost on one device")
        if health.state != "ready":
            raise NotReady(health.reason)

    def report_streams(self) -> None:
        """Send how many streams of each model are open, for the engine to unload."""
        if self._frames is not None and self.streams is not None:
            counts = {key: self.streams.open_streams(key) for key in self._arenas}
            self._frames.send(channel.encode(channel.STREAMS, counts))

    def send_trace(self, model: str, page: int, parent: str) -> None:
        """Tell the engine process that a page in the next commands is traced."""
        if self._frames is not None:
            self._frames.send(channel.encode(channel.TRACE, model, page, parent))

    @property
    def _frontend(self) -> Frontend:
        assert self.streams is not None
        return self.streams.frontend

    def _receive(self, message: bytes) -> None:
        kind, *content = channel.decode(message)
        if kind == channel.OUTPUTS:
            outputs: list[DeviceOutput] = content[0]
            self._deliver(outputs)
        elif kind == channel.HEALTH:
            self._health = channel.health_from_plain(content[0])
        elif kind == channel.MODELS:
            self._follow([ModelFacts(*facts) for facts in content[0]])
        elif kind == channel.WELCOME:
            self._port, models, health = content
            self._health = channel.health_from_plain(health)
            if self._welcomed is not None and not self._welcomed.done():
                self._welcomed.set_result([ModelFacts(*facts) for facts in models])

    def _lost(self) -> None:
        """Fail what was with the engine, and look for the next one."""
        waiting = ModelHealth("starting", ENDED)
        self._health = Health(dict.fromkeys(self._health.models, waiting))
        was_connected, self._frames = self._frames is not None, None
        if self._welcomed is not None and not self._welcomed.done():
            self._welcomed.set_exception(EngineFailed(ENDED))
            return
        if was_connected and self.streams is not None:
            LOG.warning(
                "the engine process has ended; its sessions may be resumed",
                extra=about("engine_lost"),
            )
            self.on_lost()
            self.streams.lose_engine(EngineFailed(ENDED))
            self._reconnecting = asyncio.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        models = await self.connect()
        for model in self._arenas:
            self._share(model)
        self._follow(models)

    def _follow(self, models: list[ModelFacts]) -> None:
        self.on_models(models)
        kept = {each.shape.key for each in models}
        self._arenas = {k: arena for k, arena in self._arenas.items() if k in kept}

    def _lose(self) -> None:
        """End the connection, as if the engine process had."""
        if self._frames is not None:
            self._frames.close()

    def _share(self, model: str) -> None:
        """Send the descriptor of a model's pages, and wait until they are mapped."""
        arena = self._arenas[model]
        file = self._files.pop(id(arena), None)
        if file is None:
            return
        shape = (arena.tick_events, arena.classes, arena.pages)
        header = json.dumps([self._port, model, *shape]).encode()
        try:
            with socket.socket(socket.AF_UNIX) as way:
                way.settimeout(PAGES_S)
                way.connect(str(self._folder / PAGES))
                socket.send_fds(way, [header], [file])
                mapped = way.recv(1) == b"1"
        except OSError:
            mapped = False
        os.close(file)
        if not mapped:
            LOG.warning(
                "the engine process takes no pages: connecting again",
                extra=about("engine_lost"),
            )
            self._lose()


class RemoteSpans:
    """The spans of the engine process, which makes them; see `EngineSpans`.

    Args:
        engine: The engine process.
    """

    def __init__(self, engine: RemoteEngine) -> None:
        self._engine = engine

    def expect(self, port: int, model: str, page: int, parent: str) -> None:
        """Have the engine process trace a page; it knows the port."""
        self._engine.send_trace(model, page, parent)

    def watched(self, port: int, deliver: Deliver) -> Deliver:
        """Return what was given: the engine process sees the pages."""
        return deliver

    def observed(self, observer: Observer) -> Observer:
        """Return what was given: the device is the engine process's."""
        return observer


def _memory_file() -> int:
    """Return the descriptor of a file that is in memory where the system can do so."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("ticks")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _elsewhere(*_: Any) -> Any:
    raise AssertionError("the engine process has the weights")


def _ignore() -> None:
    """Leave it to the streams."""


def _drop(_: Any) -> None:
    """Discard what comes before anybody takes it."""

"""The state that all connections of one server share."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from saccade.server.background import Background
from saccade.server.engine.client import EngineClient
from saccade.server.engine.errors import DeviceLost
from saccade.server.engine.health import HasHealth
from saccade.server.engine.model_registry import Catalogue, ServedModel
from saccade.server.fleet.fleet import Fleet
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.errors import NotReady, UnknownModel
from saccade.server.protocol.messages import GoAway
from saccade.server.reading.readers import Readers
from saccade.server.sessions.registry import SessionRegistry
from saccade.server.sessions.signal import Signal
from saccade.server.sessions.watch_desk import WatchDesk
from saccade.server.settings import Settings
from saccade.server.telemetry.spans import NoTelemetry, Telemetry
from saccade.server.transport.auth import Keys, TicketOffice, Tickets
from saccade.server.transport.elsewhere import Alone, Elsewhere
from saccade.server.transport.metrics import Metrics
from saccade.server.transport.rate_limits import KeyQuotas
from saccade.server.transport.sampler import Sampler
from saccade.server.transport.send_queue import Ending, SendQueue
from saccade.server.transport.uploads import UploadFolder

RESTART: Final = Ending(1012, "the server stops, or a part of it has")
READING: Final = 0.75
"""The part of the drain in which clients are read; in the rest, what they sent is
scored."""
MOST_RECORDINGS: Final = 128
"""Recordings of requests that are scored at one time: twice the rows of the largest
batch, so that batches stay full while some recordings end."""


@dataclass
class Service:
    """The models, the engine behind them, and the connected clients.

    `part` numbers the process within the server, and `fleet` is None where the server
    is alone. `placed` are the connections whose clients asked for a placement.
    """

    settings: Settings
    catalogue: Catalogue
    engine: HasHealth
    streams: EngineClient
    registry: SessionRegistry
    metrics: Metrics
    limits: Limits
    keys: Keys
    quotas: KeyQuotas
    tickets: TicketOffice = field(default_factory=Tickets)
    elsewhere: Elsewhere = field(default_factory=Alone)
    part: int = 0
    fleet: Fleet | None = None
    telemetry: Telemetry = field(default_factory=NoTelemetry)
    background: Background = field(init=False)
    desk: WatchDesk = field(init=False)
    sampler: Sampler = field(init=False)
    uploads: UploadFolder = field(init=False)
    readers: Readers = field(init=False)
    scoring: asyncio.Semaphore = field(init=False)
    draining: bool = False
    connections: set[SendQueue] = field(default_factory=set)
    placed: set[SendQueue] = field(default_factory=set)
    _changed: Signal = field(default_factory=Signal)

    def __post_init__(self) -> None:
        self.background = Background(self.metrics.note_background)
        self.desk = WatchDesk(self.registry)
        self.sampler = Sampler(self.metrics, lambda: self.catalogue.current)
        self.uploads = UploadFolder(self.settings.max_uploads_bytes)
        self.readers = Readers()
        self.scoring = asyncio.Semaphore(min(MOST_RECORDINGS, self.settings.slots))
        self._started_s = time.monotonic()

    @property
    def uptime_s(self) -> float:
        """Seconds since the process was ready to serve."""
        return time.monotonic() - self._started_s

    def model(self, name: str) -> ServedModel:
        """Return a model that new sessions may use.

        Raises:
            UnknownModel: No model has that name.
            NotReady: The server is about to stop.
        """
        if self.draining:
            raise NotReady("the server is stopping")
        current = self.catalogue.current
        if name not in current:
            raise UnknownModel(name, tuple(current))
        return current[name]

    async def close_uploads(self) -> None:
        """End the reader processes, and remove what clients have sent as files."""
        await self.readers.close()
        self.uploads.close()

    def disconnect(self, client: SendQueue) -> None:
        """Remove a connection that has ended."""
        self.connections.discard(client)
        self.placed.discard(client)
        self._changed.notify()

    def disconnect_all(self) -> None:
        """End every connection; the sessions may be resumed."""
        for client in self.connections:
            client.end(RESTART)

    async def leave_device(self) -> None:
        """End every connection and save what does not need a device that is lost.

        A session that was on the device goes on from its last snapshot.
        """
        self.draining = True
        self.disconnect_all()
        self.streams.lose_engine(DeviceLost())
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s):
                await self.registry.detach_all()

    async def drain(self, reconnect_after_ms: int) -> None:
        """Refuse new sessions, send `goaway`, wait, then save the sessions that remain.

        A session that is saved has no whole tick left to score, if time sufficed.
        """
        self.draining = True
        if self.fleet is not None:
            await self.fleet.beat()  # nobody is placed here from now on
            if self.fleet.others:
                reconnect_after_ms = 0
        leaving = GoAway("the server is stopping", reconnect_after_ms, cause="drain")
        for client in self.connections:
            client.put(leaving)
        reading_s = READING * self.settings.drain_s
        with suppress(TimeoutError):
            async with asyncio.timeout(reading_s):
                await self._changed.wait_for(lambda: not self.connections)
        for client in self.connections:
            client.reading = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s - reading_s):
                await self.registry.drained()
        self.disconnect_all()
        await self.registry.detach_all()

"""What every connection of one server shares."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from saccade.server.engine.client import EngineClient
from saccade.server.engine.engine import Engine
from saccade.server.engine.model_registry import Catalogue, ServedModel
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.errors import NotReady, UnknownModel
from saccade.server.protocol.messages import GoAway
from saccade.server.sessions.registry import SessionRegistry
from saccade.server.sessions.signal import Signal
from saccade.server.settings import Settings
from saccade.server.transport.auth import Keys, Tickets
from saccade.server.transport.metrics import Metrics
from saccade.server.transport.rate_limits import Allowances
from saccade.server.transport.send_queue import Ending, Mailbox

RESTART: Final = Ending(1012, "the server is stopping")
LISTENING: Final = 0.75
"""The part of the drain in which clients are read; the rest is for what they sent."""


@dataclass
class Service:
    """The models, the engine behind them, and who is connected."""

    settings: Settings
    catalogue: Catalogue
    engine: Engine
    streams: EngineClient
    roster: SessionRegistry
    metrics: Metrics
    limits: Limits
    keys: Keys
    allowances: Allowances
    tickets: Tickets = field(default_factory=Tickets)
    leaving: bool = False
    connected: set[Mailbox] = field(default_factory=set)
    changed: Signal = field(default_factory=Signal)

    def model(self, name: str) -> ServedModel:
        """Return a model that new sessions may use.

        Raises:
            UnknownModel: None has that name.
            NotReady: The server is about to stop.
        """
        if self.leaving:
            raise NotReady("the server is stopping")
        current = self.catalogue.current
        if name not in current:
            raise UnknownModel(name, tuple(current))
        return current[name]

    def connect(self, mailbox: Mailbox) -> None:
        """Note a new connection."""
        self.connected.add(mailbox)

    def disconnect(self, mailbox: Mailbox) -> None:
        """Note that a connection has ended."""
        self.connected.discard(mailbox)
        self.changed.notify()

    async def leave(self, reconnect_after_ms: int) -> None:
        """Admit nobody, tell everybody, give them time to finish, save the rest.

        What is saved has no whole tick left to score, if there was time for that.
        """
        self.leaving = True
        for mailbox in self.connected:
            mailbox.put(GoAway("the server is stopping", reconnect_after_ms))
        listening_s = LISTENING * self.settings.drain_s
        with suppress(TimeoutError):
            async with asyncio.timeout(listening_s):
                await self.changed.wait_for(lambda: not self.connected)
        for mailbox in self.connected:
            mailbox.stop_listening()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s - listening_s):
                await self.roster.drained()
        for mailbox in self.connected:
            mailbox.end(RESTART)
        await self.roster.detach_all()

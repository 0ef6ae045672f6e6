"""Moves sessions to emptier servers of the fleet: `goaway`, then close code 1012."""

from __future__ import annotations

import asyncio
from typing import Final

from saccade.server.fleet.rebalancing import surplus
from saccade.server.protocol.messages import GoAway
from saccade.server.sessions.registry import LiveSession
from saccade.server.transport.send_queue import Ending, SendQueue
from saccade.server.transport.service import Service

REBALANCING: Final = "the rebalancing of sessions"
REBALANCE_S: Final = 3.0
"""Time between two looks, s: longer than the heartbeats take to tell of a move."""
SCORING_S: Final = 2.0
"""How long a session that moves may take until what it sent is scored, s."""
MOVED: Final = Ending(1012, "the session moves to another server")


class Rebalancer:
    """Moves sessions away where this process has more than its share.

    Only clients that asked for a placement are moved: another would come back here.

    Args:
        service: The process's service, in a fleet.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._events: dict[str, int] = {}

    async def look(self) -> None:
        """Move as many sessions as are too many, within the bound; wait for them."""
        moving = self.chosen()
        self._events = {
            one.session.handle.session: one.session.events_sent
            for one in self._service.registry.all()
        }
        await asyncio.gather(*[self._move(live) for live in moving])

    def chosen(self) -> list[LiveSession]:
        """Return the sessions to move now: those first that sent the least lately."""
        service, fleet = self._service, self._service.fleet
        if fleet is None or service.draining or not fleet.connected:
            return []
        chosen: list[LiveSession] = []
        replicas, streams = fleet.replicas, service.streams
        for name, model in service.catalogue.current.items():
            sessions = streams.open_streams(model.key)
            many = surplus(replicas, name, sessions, streams.capacity)
            room = max(0, service.settings.rebalance - len(chosen))
            movable = [one for one in self._movable() if one.session.model is model]
            movable.sort(key=self._sent_lately)
            chosen += movable[: min(many, room)]
        return chosen

    def _movable(self) -> list[LiveSession]:
        placed, sessions = self._service.placed, self._service.registry.all()
        return [one for one in sessions if one.writer and one.sink in placed]

    def _sent_lately(self, live: LiveSession) -> int:
        """Return how many events a session has sent since the last look."""
        sent = live.session.events_sent
        return sent - self._events.get(live.session.handle.session, 0)

    async def _move(self, live: LiveSession) -> None:
        queue = live.sink
        assert isinstance(queue, SendQueue)
        reason = "another server has more room"
        queue.put(GoAway(reason, 0, cause="rebalance"))
        queue.reading = False
        await queue.wait_for(lambda: live.session.drained, SCORING_S)
        queue.end(MOVED)

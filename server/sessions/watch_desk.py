"""The watches of one process: who may watch what, and for how many there is room.

A watcher whose session lives in another process collects by calls, each of which
answers within a second; a watch that nobody collects any more is ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from saccade.server.protocol.codec import Wire
from saccade.server.protocol.watching import encode_watched
from saccade.server.sessions.registry import LiveSession, SessionRegistry
from saccade.server.sessions.watching import PERIOD_S, Watch

MOST_OF_A_SESSION: Final = 8
MOST_OF_A_PROCESS: Final = 64
LONGEST_ANSWER_S: Final = 0.5
FORGOTTEN_S: Final = 10.0
"""A watch of another process that is not collected for so long is ended."""


class TooManyWatchers(Exception):
    """The session, or this process, has as many watchers as it may."""

    def __str__(self) -> str:
        return "the session, or the server, has as many watchers as it may"


class WatchRequest(NamedTuple):
    """What a watcher asks for.

    Attributes:
        session: The session's name.
        holder: Holder of the watcher's API key.
        everyone: Whether it may watch the sessions of other holders.
        max_events_per_s: The most events that it is to receive.
        text: Whether messages are to be JSON text.
    """

    session: str
    holder: str
    everyone: bool
    max_events_per_s: int
    text: bool


class Collected(NamedTuple):
    """Messages for a watcher, and whether they are the last."""

    messages: list[Wire]
    ended: bool


class WatchDesk:
    """Begins and ends watches of the sessions with a client in this process.

    Args:
        registry: The sessions.
        clock: Gives seconds.
    """

    def __init__(
        self, registry: SessionRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._live: dict[Watch, LiveSession] = {}
        self._remote: dict[str, tuple[Watch, float]] = {}

    def begin(self, request: WatchRequest) -> Watch | None:
        """Begin to watch a session; None where the watcher knows of none of that name.

        Raises:
            TooManyWatchers: There is no room for another.
        """
        live = self._registry.named(request.session)
        if live is None:
            return None
        if not request.everyone and live.session.handle.holder != request.holder:
            return None
        most = len(self._live) >= MOST_OF_A_PROCESS
        if most or len(live.watches) >= MOST_OF_A_SESSION:
            raise TooManyWatchers
        watch = Watch(live.session, request.max_events_per_s, self._clock())
        live.watches.add(watch)
        self._live[watch] = live
        return watch

    def end(self, watch: Watch) -> None:
        """End a watch whose watcher is gone."""
        live = self._live.pop(watch, None)
        if live is not None:
            live.watches.remove(watch)

    async def collect(
        self, watch: Watch, *, text: bool, longest_s: float = float("inf")
    ) -> Collected:
        """Wait for what is new, and return it; nothing once so long has passed.

        A watcher is shown nothing of a session that may be another server's by now.
        """
        began_s = self._clock()
        while True:
            await asyncio.sleep(PERIOD_S)
            await self._confirm(watch)
            now_s = self._clock()
            messages = watch.collect(now_s)
            if messages or watch.ended or now_s - began_s >= longest_s:
                encoded = [encode_watched(message, text=text) for message in messages]
                return Collected(encoded, watch.ended)

    async def _confirm(self, watch: Watch) -> None:
        """Ask whose the session is, where the store has not said so for a lease.

        While the store does not answer, nobody can claim it.
        """
        live = self._live.get(watch)
        if live is None or live.confirmed or self._registry.store_fails:
            return
        await self._registry.confirm(live)
        if live.lost:
            watch.lose()

    async def answer(
        self, name: str, request: WatchRequest, *, first: bool
    ) -> Collected | None:
        """Collect for another process.

        Args:
            name: The watch's name, which the other process has made.
            request: What is watched.
            first: Whether the watch begins.

        Returns:
            What is new; None where there is no such session or watch here.

        Raises:
            TooManyWatchers: There is no room for another.
        """
        self._forget()
        known = self._remote.get(name, (None, 0.0))[0]
        watch = self.begin(request) if first else known
        if watch is None:
            return None
        self._remote[name] = (watch, self._clock())
        found = await self.collect(watch, text=request.text, longest_s=LONGEST_ANSWER_S)
        if found.ended:
            self.stop(name)
        return found

    def stop(self, name: str) -> None:
        """End a watch of another process."""
        watch, _ = self._remote.pop(name, (None, 0.0))
        if watch is not None:
            self.end(watch)

    def _forget(self) -> None:
        """End the watches of processes that do not collect any more."""
        oldest_s = self._clock() - FORGOTTEN_S
        late = [name for name, (_, at_s) in self._remote.items() if at_s < oldest_s]
        for name in late:
            self.stop(name)

"""One session's snapshots, one at a time, into the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from saccade.server.sessions.session import MessageSink, Session
from saccade.server.sessions.snapshots import Snapshot, encode
from saccade.server.sessions.stores.store import Record, Store


class SnapshotPolicy(NamedTuple):
    """How sessions are kept.

    Attributes:
        every_s: A session that has moved is saved this often.
        every_events: And once so many events have come.
        ttl_s: How long a session is kept that nobody is connected to.
        closed_ttl_s: And one that has ended, whose last message may be lost.
    """

    every_s: float = 1.0
    every_events: int = 1 << 20
    ttl_s: float = 300.0
    closed_ttl_s: float = 30.0


class SnapshotWriter:
    """Keeps one session, for as long as it has a slot here.

    Args:
        store: Where.
        record: The record's name and epoch.
        session: What is kept.
        carrier: Its client.
        terms: How often, and how long.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        record: tuple[str, int],
        session: Session,
        carrier: MessageSink,
        terms: SnapshotPolicy,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.key, self._epoch = record
        self.session = session
        self.carrier = carrier
        self.leaving: asyncio.Task[None] | None = None
        self._store = store
        self._terms = terms
        self._clock = clock
        self._busy = asyncio.Lock()
        self._kept_version = 0
        self._kept_events = 0
        self._kept_s = clock()

    def due(self) -> bool:
        """Tell whether it is time to save the session, or to renew its time."""
        if self._busy.locked() or self.leaving is not None or self.session.lost:
            return False
        waited_s = self._clock() - self._kept_s
        if self.session.version == self._kept_version:
            return waited_s >= self._terms.ttl_s / 2
        events = self.session.events_sent - self._kept_events
        return waited_s >= self._terms.every_s or events >= self._terms.every_events

    async def keep(self) -> None:
        """Save the session if it has moved, and renew its time in any case.

        Raises:
            StoreError: It could not be saved, or is another server's by now.
        """
        async with self._busy:
            version, events = self.session.version, self.session.events_sent
            snapshot = None
            if version != self._kept_version:
                snapshot = await self._take()
            expires_s = self._clock() + self._terms.ttl_s
            if snapshot is None:
                await self._store.touch(self.key, self._epoch, expires_s)
            else:
                data = await asyncio.to_thread(encode, snapshot)
                await self._store.save(Record(self.key, self._epoch, expires_s, data))
                self._kept_version, self._kept_events = version, events
                self.session.survived(snapshot.seq)
            self._kept_s = self._clock()

    async def linger(self) -> None:
        """Keep a session that has ended, until its last message must have come."""
        expires_s = self._clock() + min(self._terms.closed_ttl_s, self._terms.ttl_s)
        await self._store.touch(self.key, self._epoch, expires_s)

    async def forget(self) -> None:
        """Throw the record away."""
        await self._store.delete(self.key, self._epoch)

    async def _take(self) -> Snapshot | None:
        """Wait for a snapshot; None where the session ended or began anew meanwhile."""
        if self.session.lost:
            return None
        taken: asyncio.Future[Snapshot | None]
        taken = asyncio.get_running_loop().create_future()

        def take(snapshot: Snapshot | None) -> None:
            if not taken.done():
                taken.set_result(snapshot)

        self.session.snapshot(take)
        return await taken

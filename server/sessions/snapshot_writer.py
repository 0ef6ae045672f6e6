"""Writes one session's snapshots into the store, one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple
from zlib import crc32

from saccade.server.sessions.session import Session
from saccade.server.sessions.snapshots import Snapshot, encode
from saccade.server.sessions.stores.store import Record, Store

COPIED_EVENTS: Final = 1 << 16
"""A snapshot copies the events under way; with more than these it is taken less often,
so that many congested sessions do not spend the event loop's time on copies."""


class SnapshotPolicy(NamedTuple):
    """How often snapshots are written, and how long they are kept.

    Attributes:
        every_s: A session that has changed is saved this often, or less often where
            more than `COPIED_EVENTS` are under way; 0 keeps all sessions
            in memory alone, and none can be resumed.
        every_events: It is saved also once so many events have come.
        ttl_s: How long a session without a client is kept.
        closed_ttl_s: How long one that has ended is kept: its last message may be lost.
    """

    every_s: float = 1.0
    every_events: int = 1 << 20
    ttl_s: float = 300.0
    closed_ttl_s: float = 30.0


def _share(key: str) -> float:
    """Return a number from 0 to 1 that is always the same for a key."""
    return crc32(key.encode()) / 2**32


class SnapshotWriter:
    """Saves one session for as long as it is live on this server.

    Args:
        store: Keeps the session's record.
        record: The record's key and epoch.
        session: The session to save.
        policy: How often, and for how long.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        record: tuple[str, int],
        session: Session,
        policy: SnapshotPolicy,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key, self._epoch = record
        self._session = session
        self._store = store
        self._policy = policy
        self._clock = clock
        self._saving = asyncio.Lock()
        self._saved_revision = 0
        self._saved_events = 0
        # Sessions that began together are not saved together.
        self._saved_s = clock() - policy.every_s * _share(self._key)

    def due(self) -> bool:
        """Return whether it is time to save the session, or to renew its expiry."""
        if self._saving.locked() or self._session.ended:
            return False
        waited_s = self._clock() - self._saved_s
        if self._session.revision == self._saved_revision:
            return waited_s >= self._policy.ttl_s / 2
        events = self._session.events_sent - self._saved_events
        every_s = self._policy.every_s * max(
            1.0, self._session.under_way / COPIED_EVENTS
        )
        return waited_s >= every_s or events >= self._policy.every_events

    async def save(self) -> None:
        """Save the session if it has changed, and renew its expiry in any case.

        Raises:
            Fenced: Another server has the session by now.
            StoreUnavailable: The session could not be saved.
        """
        async with self._saving:
            revision, events = self._session.revision, self._session.events_sent
            snapshot = None
            if revision != self._saved_revision:
                snapshot = await self._snapshot()
            expires_s = self._clock() + self._policy.ttl_s
            if snapshot is None:
                await self._store.touch(self._key, self._epoch, expires_s)
            else:
                data = await asyncio.to_thread(encode, snapshot)
                await self._store.save(Record(self._key, self._epoch, expires_s, data))
                self._saved_revision, self._saved_events = revision, events
                self._session.mark_durable(snapshot.seq)
            self._saved_s = self._clock()

    async def expire_soon(self) -> None:
        """Keep a session that has ended until its last message must have come."""
        expires_s = self._clock() + min(self._policy.closed_ttl_s, self._policy.ttl_s)
        await self._store.touch(self._key, self._epoch, expires_s)

    async def delete(self) -> None:
        """Delete the session's record."""
        await self._store.delete(self._key, self._epoch)

    async def _snapshot(self) -> Snapshot | None:
        """Wait for a snapshot; None where the session ended or was reset meanwhile."""
        if self._session.ended:
            return None
        future: asyncio.Future[Snapshot | None]
        future = asyncio.get_running_loop().create_future()

        def done(snapshot: Snapshot | None) -> None:
            if not future.done():
                future.set_result(snapshot)

        self._session.snapshot(done)
        return await future

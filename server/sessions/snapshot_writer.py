"""One session's record in the store: when to write it, and whether it is still ours.

A record belongs to the server that claimed it last, and a claim waits for nobody. So an
owner that the store has not confirmed for long says nothing until it has asked again:
it may have been paused while its client went on elsewhere.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from saccade.server.sessions.session import Session
from saccade.server.sessions.snapshots import Snapshot
from saccade.server.sessions.store_access import Save, StoreAccess, Written
from saccade.server.sessions.stores.store import (
    Change,
    Check,
    Delete,
    Fenced,
    Outcome,
    Record,
    StoreUnavailable,
    Touch,
)

COPIED_EVENTS: Final = 1 << 16
"""A snapshot copies the events under way; with more than these it is taken less often,
so that many congested sessions do not spend the event loop's time on copies."""
MOST_BYTES: Final = 1 << 23
"""Bytes of events between two snapshots even then: clients keep four times as many."""
LATE: Final = 1.25
"""How much later than it is due a snapshot may be taken: at a moment when no whole tick
waits, which would be copied with it."""
JITTER: Final = 0.25
"""The part of a period that is random, so that sessions are not saved all at once."""
FIRST_S: Final = 1.0
"""The longest that the opening of a session waits for the store."""


class SnapshotPolicy(NamedTuple):
    """How often snapshots are written, and how long they are kept.

    What comes after a snapshot has to be sent and scored again where the server is
    killed. So a session is saved once that has a cost, or after a long time.

    Attributes:
        every_s: A session that has changed is saved this often at least; 0 keeps all
            sessions in memory alone, and none can be resumed.
        every_events: It is saved also once so many events have come.
        every_bytes: And once so many bytes of events have: its client keeps them.
        ttl_s: How long a session without a client is kept.
        closed_ttl_s: How long one that has ended is kept: its last message may be lost.
        lease_s: How long after the store has confirmed that a session is this
            server's the session's client is answered; 0 is for ever.
    """

    every_s: float = 10.0
    every_events: int = 1 << 17
    every_bytes: int = 1 << 20
    ttl_s: float = 300.0
    closed_ttl_s: float = 30.0
    lease_s: float = 5.0


class SnapshotWriter:
    """Saves one session for as long as it is live on this server.

    A session whose first record could not be made has none until a later save; before,
    nobody else can have it.

    Args:
        access: The way to the store.
        key: The record's key.
        epoch: The epoch of the record, claimed or about to be made.
        session: The session to save.
        policy: How often, and for how long.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        access: StoreAccess,
        key: str,
        epoch: int,
        session: Session,
        policy: SnapshotPolicy,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key, self._epoch = key, epoch
        self._session = session
        self._access = access
        self._policy = policy
        self._clock = clock
        self._saving = asyncio.Lock()
        self._exchanging = asyncio.Lock()
        self._was_s: float | None = None
        self._confirmed_s = float("-inf")
        self._doubted = False
        self._saved_revision = self._checked_revision = 0
        self._saved_events = self._saved_bytes = 0
        # Sessions that began together are not saved together.
        self._saved_s = clock() - random.uniform(0, policy.every_s)
        self._period_s = policy.every_s

    @property
    def recorded(self) -> bool:
        """Whether the store has a record of the session, as far as is known."""
        return self._was_s is not None

    @property
    def confirmed(self) -> bool:
        """Whether the store has confirmed, not long ago, whose the session is."""
        lease_s = self._policy.lease_s
        return not (self.recorded and lease_s) or self._access.now_s < (
            self._confirmed_s + lease_s
        )

    def claimed(self, record: Record, asked_s: float) -> None:
        """Continue a record that was claimed.

        Args:
            record: The record.
            asked_s: When the store was asked, by `StoreAccess.now_s`.
        """
        self._was_s, self._confirmed_s = record.expires_s, asked_s

    def due(self) -> bool:
        """Return whether it is time to save the session, or to renew its expiry."""
        if self._saving.locked() or self._session.ended:
            return False
        if not self.recorded:
            return True
        waited_s = self._clock() - self._saved_s
        if self._session.revision == self._saved_revision:
            return waited_s >= self._policy.ttl_s / 2
        policy, sent = self._policy, self._session.conversation.ledger.sent
        size = sent.bytes - self._saved_bytes
        cost = max(
            waited_s / self._period_s,
            (sent.events - self._saved_events) / policy.every_events,
            size / policy.every_bytes,
        )
        if cost < 1:
            return False
        congestion = max(1.0, self._session.under_way / COPIED_EVENTS)
        patience = LATE * congestion if self._session.busy else 1.0
        return cost >= patience or size >= MOST_BYTES

    def check_due(self) -> bool:
        """Return whether to ask the store before the session's answers have to wait."""
        if not self.recorded or self._exchanging.locked() or self._session.ended:
            return False
        if self._doubted:
            return True
        lease_s = self._policy.lease_s
        if not lease_s or self._session.revision == self._checked_revision:
            return False
        return self._access.now_s > self._confirmed_s + lease_s / 2

    def doubt(self) -> None:
        """Ask soon whether the store has the record: it may have lost it."""
        self._doubted = True

    async def begin(self, first: Snapshot) -> bool:
        """Make the record, if the store is quick; return whether there is one."""
        if self._access.failing:
            return False
        expires_s = self._clock() + self._policy.ttl_s
        try:
            async with asyncio.timeout(FIRST_S), self._exchanging:
                await self._write(Save(self._key, self._epoch, expires_s, first))
        except (TimeoutError, StoreUnavailable):
            return False
        self._was_s = expires_s
        return True

    async def save(self) -> None:
        """Save the session if it has changed, and renew its expiry in any case.

        Raises:
            Fenced: Another server has the session by now.
            StoreUnavailable: The session could not be saved.
        """
        async with self._saving:
            unchanged = self._session.revision == self._saved_revision
            if not (unchanged and await self._touch(self._policy.ttl_s)):
                await self._save()

    async def confirm(self) -> None:
        """Ask the store whether the session is this server's; save it where it is lost.

        Raises:
            Fenced: Another server has the session by now.
            StoreUnavailable: The store does not answer.
        """
        revision = self._session.revision
        async with self._exchanging:
            if self._was_s is None:
                return
            check = Check(self._key, self._epoch, self._was_s)
            written = await self._write(check)
        self._checked_revision = revision
        if written.outcome is Outcome.MISSING:
            async with self._saving:
                await self._save()

    async def expire_soon(self) -> None:
        """Keep a session that has ended until its last message must have come."""
        await self._touch(min(self._policy.closed_ttl_s, self._policy.ttl_s))

    async def delete(self) -> None:
        """Delete the session's record."""
        expires_s = self._clock() + self._policy.ttl_s
        await self._write(Delete(self._key, self._epoch, expires_s))

    async def _save(self) -> None:
        began_s = time.perf_counter()
        revision, sent = self._session.revision, self._session.conversation.ledger.sent
        snapshot = await self._snapshot()
        if snapshot is None:
            await self._touch(self._policy.ttl_s)
            return
        async with self._exchanging:
            expires_s = self._clock() + self._policy.ttl_s
            save = Save(self._key, self._epoch, expires_s, snapshot)
            written = await self._write(save)
            self._was_s = expires_s
        self._access.count_saved(time.perf_counter() - began_s, written.size)
        self._saved_revision, self._checked_revision = revision, revision
        self._saved_events, self._saved_bytes = sent.events, sent.bytes
        self._saved_s = self._clock()
        self._period_s = self._policy.every_s * random.uniform(1 - JITTER, 1)
        self._session.mark_durable(snapshot.seq)

    async def _touch(self, kept_s: float) -> bool:
        """Renew the record's expiry; return False where it has to be saved first."""
        async with self._exchanging:
            if self._was_s is None:
                return False
            expires_s = self._clock() + kept_s
            touch = Touch(self._key, self._epoch, self._was_s, expires_s)
            if (await self._write(touch)).outcome is Outcome.MISSING:
                return False
            self._was_s, self._saved_s = expires_s, self._clock()
            return True

    async def _write(self, change: Change | Save) -> Written:
        """Do a change, and note that the session is ours where the store says so.

        Raises:
            Fenced: It is another server's, or was deleted.
            StoreUnavailable: The store does not answer.
        """
        written = await self._access.write(change)
        if written.outcome is Outcome.FENCED:
            raise Fenced
        if written.outcome is Outcome.DONE:
            self._confirmed_s, self._doubted = written.asked_s, False
        return written

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

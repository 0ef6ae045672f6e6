"""A client that opens a session or comes back to one, and whether it may."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import fields
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakValueDictionary

from saccade.server.engine.client import EngineClient
from saccade.server.engine.model_registry import Catalogue, ServedModel
from saccade.server.protocol.errors import (
    InternalError,
    InvalidField,
    ModelChanged,
    NotReady,
    TakenOver,
    UnknownSession,
)
from saccade.server.protocol.messages import Open
from saccade.server.sessions.session import MessageSink, Session, SessionHandle
from saccade.server.sessions.snapshot_writer import SnapshotPolicy, SnapshotWriter
from saccade.server.sessions.snapshots import (
    Snapshot,
    UnreadableSnapshot,
    decode,
    encode,
)
from saccade.server.sessions.stores.store import (
    Fenced,
    Record,
    Store,
    StoreError,
    StoreUnavailable,
)

CHOICES: Final = tuple(
    field.name for field in fields(Open) if field.name not in {"protocol", "resume"}
)
"""What a client that comes back must ask for as it did at first."""


class OpenRequest(NamedTuple):
    """A client that opens a session, or comes back to one.

    Attributes:
        opening: What it asks for.
        model: The model that it asks for.
        carrier: Where it hears.
        holder: Whose key it showed; empty where there are none.
    """

    opening: Open
    model: ServedModel
    carrier: MessageSink
    holder: str = ""


def key_of(token: str) -> str:
    """Return what stands for a token in the store, so that none leaks from there."""
    return sha256(token.encode()).hexdigest()


def check(snapshot: Snapshot, arrival: OpenRequest, model: ServedModel) -> None:
    """Refuse to go on with a session otherwise than it began, or for somebody else.

    Raises:
        ProtocolError: It is somebody else's, another version's, or was opened
            otherwise.
    """
    first, opening = snapshot.opening, arrival.opening
    if snapshot.holder != arrival.holder:
        raise UnknownSession
    if opening.model == first.model and snapshot.model_hash != model.content_hash:
        raise ModelChanged(model.name, snapshot.model_hash, model.content_hash)
    for field in CHOICES:
        if getattr(first, field) != getattr(opening, field):
            raise InvalidField(field, "is not what the session was opened with")


# >>> merged from server.sessions.roster
# >>> """Every session with a slot here: how it begins, is kept, is resumed and ends.
# >>>
# >>> Coming back is one path, whatever happened before: the session leaves its slot for the
# >>> store, if it still has one, and takes a slot again from the store. So a lost connection,
# >>> a second one with the same token and a killed server all come down to the same thing.
# >>> """

LOG: Final = logging.getLogger(__name__)
LOOK_S: Final = 0.05
SWEEP_S: Final = 5.0


class RosterObserver(Protocol):
    """Who wants to know how sessions are kept."""

    def kept(self) -> None:
        """A session was saved, or its time renewed."""

    def not_kept(self) -> None:
        """The store failed; the session goes on, and is saved later."""

    def resumed(self) -> None:
        """A client came back."""


class SessionRegistry:
    """The sessions of one server.

    Args:
        streams: Where they are scored.
        catalogue: By which versions.
        store: Where they are kept.
        terms: How often, and for how long.
        observer: Counts.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        streams: EngineClient,
        catalogue: Catalogue,
        store: Store,
        terms: SnapshotPolicy,
        observer: RosterObserver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._streams = streams
        self._catalogue = catalogue
        self._store = store
        self._terms = terms
        self._observer = observer
        self._clock = clock
        self._live: dict[str, SnapshotWriter] = {}
        self._coming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ttl_ms(self) -> int:
        """For how long a session is kept that nobody is connected to."""
        return int(1000 * self._terms.ttl_s)

    async def begin(
        self, session: Session, arrival: OpenRequest
    ) -> SnapshotWriter | None:
        """Begin a session; None where the store fails, and it cannot be resumed.

        Raises:
            ProtocolError: The session was refused.
        """
        session.begin(self._streams)
        name, token = secrets.token_hex(8), secrets.token_urlsafe(32)
        opening, model, carrier, holder = arrival
        first = Snapshot(name, opening, model.content_hash, holder)
        expires_s = self._clock() + self._terms.ttl_s
        record = Record(key_of(token), 1, expires_s, encode(first))
        try:
            await self._store.create(record)
        except StoreUnavailable as error:
            self._complain(error)
            session.welcome(SessionHandle(name, holder=holder))
            return None
        keeper = self._keep(record, session, carrier)
        session.welcome(SessionHandle(name, token, self.ttl_ms, holder=holder))
        return keeper

    async def resume(self, session: Session, arrival: OpenRequest) -> SnapshotWriter:
        """Go on with the session that the client has the token of.

        Raises:
            ProtocolError: There is no such session, it is another model's, it was
                opened otherwise, or there is no place for it now.
        """
        token = arrival.opening.resume
        assert token is not None
        key = key_of(token)
        lock = self._coming.setdefault(key, asyncio.Lock())
        async with lock:
            await self._take_over(key, arrival.holder)
            record, snapshot = await self._claim(key)
            model = self._version(snapshot, arrival)
            check(snapshot, arrival, model)
            session.resume(self._streams, snapshot, model)
            keeper = self._keep(record, session, arrival.carrier)
            name, holder = snapshot.session, snapshot.holder
            session.welcome(
                SessionHandle(name, token, self.ttl_ms, resumed=True, holder=holder)
            )
        self._observer.resumed()
        return keeper

    def carrier_of(self, token: str) -> MessageSink | None:
        """Return who is connected to a session; a resume would end that."""
        keeper = self._live.get(key_of(token))
        return None if keeper is None else keeper.carrier

    def held_by(self, holder: str) -> list[SnapshotWriter]:
        """Return the sessions of a key's holder that have a client here."""
        live = [keeper for keeper in self._live.values() if keeper.leaving is None]
        return [keeper for keeper in live if keeper.session.grant.holder == holder]

    def detach(self, keeper: SnapshotWriter) -> asyncio.Task[None]:
        """Save a session whose client is gone, and free its slot."""
        if keeper.leaving is None:
            keeper.leaving = self._start(self._leave(keeper))
        return keeper.leaving

    def finish(self, keeper: SnapshotWriter) -> None:
        """End a session that was closed; its client may ask once more for the end."""
        self._end(keeper, keeper.linger())

    def discard(self, keeper: SnapshotWriter) -> None:
        """End a session that nobody will come back to."""
        self._end(keeper, keeper.forget())

    async def drained(self) -> None:
        """Wait until no session here has a whole tick left to score."""
        while any(keeper.session.busy for keeper in self._live.values()):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)

    async def detach_all(self) -> None:
        """Save every session and free its slot."""
        await asyncio.gather(*[self.detach(k) for k in [*self._live.values()]])

    async def run(self) -> None:
        """Save what is due, and throw away what has expired, until cancelled."""
        swept_s = self._clock()
        while True:
            await asyncio.sleep(LOOK_S)
            for keeper in [*self._live.values()]:
                if keeper.due():
                    self._start(self._save(keeper))
            if self._clock() - swept_s >= SWEEP_S:
                swept_s = self._clock()
                self._start(self._sweep())

    async def close(self) -> None:
        """Wait for what is being saved, and close the store."""
        await asyncio.gather(*self._tasks)
        await self._store.close()

    def _keep(
        self, record: Record, session: Session, carrier: MessageSink
    ) -> SnapshotWriter:
        owned = (record.key, record.epoch)
        keeper = SnapshotWriter(
            self._store, owned, session, carrier, self._terms, self._clock
        )
        self._live[record.key] = keeper
        return keeper

    async def _take_over(self, key: str, holder: str) -> None:
        """Send away who is connected to a session, and wait until it is saved."""
        keeper = self._live.get(key)
        if keeper is not None:
            if keeper.session.grant.holder != holder:
                raise UnknownSession
            keeper.carrier.fail(TakenOver())
            await asyncio.shield(self.detach(keeper))

    async def _claim(self, key: str) -> tuple[Record, Snapshot]:
        try:
            record = await self._store.claim(key, self._clock())
        except StoreUnavailable as error:
            self._complain(error)
            raise NotReady("the store of sessions does not answer") from None
        if record is None:
            raise UnknownSession
        try:
            return record, decode(record.data)
        except UnreadableSnapshot as error:
            LOG.error("a kept session cannot be read: %s", error)
            raise UnknownSession from None

    def _version(self, snapshot: Snapshot, arrival: OpenRequest) -> ServedModel:
        """Return the version that a session began on, else the one that took over."""
        name, content_hash = snapshot.opening.model, snapshot.model_hash
        return self._catalogue.version(name, content_hash) or arrival.model

    async def _save(self, keeper: SnapshotWriter) -> None:
        try:
            await keeper.keep()
            self._observer.kept()
        except Fenced:
            keeper.carrier.fail(TakenOver())
        except StoreError as error:
            self._complain(error)
        except Exception:
            LOG.exception("a session cannot be saved")
            keeper.carrier.fail(InternalError())

    async def _leave(self, keeper: SnapshotWriter) -> None:
        try:
            await self._save(keeper)
        finally:
            keeper.session.release()
            if self._live.get(keeper.key) is keeper:
                del self._live[keeper.key]

    def _end(self, keeper: SnapshotWriter, last: Coroutine[Any, Any, None]) -> None:
        if keeper.leaving is not None:
            last.close()
            return
        keeper.session.release()
        del self._live[keeper.key]
        keeper.leaving = self._start(self._quietly(last))

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StoreError as error:
            self._complain(error)

    async def _sweep(self) -> None:
        try:
            await self._store.sweep(self._clock())
        except StoreError as error:
            self._complain(error)

    def _complain(self, error: StoreError) -> None:
        LOG.error("%s", error)
        self._observer.not_kept()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

"""The sessions with a client on this server: begun, resumed, detached and ended here.

Coming back is one path, whatever happened before: the session leaves its slot for the
store, if it still has one, and takes a slot again from the store. So a lost connection,
a second one with the same token and a killed server all come down to the same thing.

A session without a record in the store ends with its connection: where no snapshots are
wanted, or where the store failed as the session began.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, fields
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
from saccade.server.sessions.handle import MessageSink, SessionHandle
from saccade.server.sessions.session import Session
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
from saccade.server.sessions.watching import Watches

LOG: Final = logging.getLogger(__name__)

POLL_S: Final = 0.05
"""Time between two looks for sessions to save, or for the end of a drain."""

SWEEP_S: Final = 5.0

SAVING: Final = "the saving of sessions"

FIXED_FIELDS: Final = tuple(
    one.name for one in fields(Open) if one.name not in {"protocol", "resume"}
)
"""Fields of `open` that must be the same when the session is resumed."""


class OpenRequest(NamedTuple):
    """A client's request to open a session, or to resume one.

    Attributes:
        opening: The `open` message.
        model: The current version of the model that it names.
        sink: The client's connection.
        holder: Holder of the client's API key; empty where there are no keys.
    """

    opening: Open
    model: ServedModel
    sink: MessageSink
    holder: str = ""


@dataclass(eq=False)
class LiveSession:
    """A session with a client on this server.

    Attributes:
        key: Its record's key in the store; without a record, its name.
        session: The session.
        sink: Its client's connection.
        writer: Saves it; None without a record.
        watches: Its watchers.
        ending: The task that saves it, or its end, once it is not live any more.
    """

    key: str
    session: Session
    sink: MessageSink
    writer: SnapshotWriter | None
    watches: Watches = field(init=False)
    ending: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.watches = Watches(self.session)


class RegistryObserver(Protocol):
    """Counts what becomes of sessions."""

    def kept(self) -> None:
        """A session was saved, or its expiry renewed."""

    def not_kept(self) -> None:
        """The store failed; the session goes on, and is saved later."""

    def resumed(self) -> None:
        """A client came back."""


class SessionRegistry:
    """The sessions of one server.

    Args:
        client: The engine that scores them.
        catalogue: The versions of the models.
        store: Keeps their snapshots.
        policy: How often they are saved, and how long they are kept.
        observer: Counts.
        clock: Seconds since 1970.

    Attributes:
        replica: The server's name in its fleet; None where it is alone.
    """

    def __init__(
        self,
        client: EngineClient,
        catalogue: Catalogue,
        store: Store,
        policy: SnapshotPolicy,
        observer: RegistryObserver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.replica: str | None = None
        self._client = client
        self._catalogue = catalogue
        self._store = store
        self._policy = policy
        self._observer = observer
        self._clock = clock
        self._live: dict[str, LiveSession] = {}
        self._resuming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._swept_s = clock()

    @property
    def ttl_ms(self) -> int:
        """For how long a session without a client is kept."""
        return int(1000 * self._policy.ttl_s)

    async def begin(self, session: Session, request: OpenRequest) -> LiveSession:
        """Begin a session.

        Raises:
            ProtocolError: The session was refused.
        """
        session.begin(self._client)
        name, token = secrets.token_hex(8), secrets.token_urlsafe(32)
        opening, model, sink, holder = request
        first = Snapshot(name, opening, model.content_hash, holder)
        record = await self._create_record(token, first)
        if record is None:
            live = LiveSession(name, session, sink, writer=None)
            handle = SessionHandle(name, holder=holder)
        else:
            live = self._saved(record, session, sink)
            handle = SessionHandle(name, token, self.ttl_ms, holder=holder)
        self._live[live.key] = live
        session.send_opened(handle._replace(replica=self.replica))
        return live

    async def resume(self, session: Session, request: OpenRequest) -> LiveSession:
        """Continue the session that the client has the token of.

        Raises:
            ProtocolError: There is no such session, it is another model's, it was
                opened otherwise, or there is no place for it now.
        """
        token = request.opening.resume
        assert token is not None
        key = key_of(token)
        lock = self._resuming.setdefault(key, asyncio.Lock())
        async with lock:
            await self._take_over(key, request.holder)
            record, snapshot = await self._claim(key)
            model = self._version(snapshot, request)
            check(snapshot, request, model)
            session.resume(self._client, snapshot, model)
            live = self._live[key] = self._saved(record, session, request.sink)
            name, holder = snapshot.session, snapshot.holder
            handle = SessionHandle(
                name, token, self.ttl_ms, resumed=True, holder=holder
            )
            session.send_opened(handle._replace(replica=self.replica))
        self._observer.resumed()
        return live

    def sink_of(self, token: str) -> MessageSink | None:
        """Return a session's connection, which a resume would end, or None."""
        live = self._live.get(key_of(token))
        return None if live is None else live.sink

    def live(self, key: str) -> LiveSession | None:
        """Return the session of a record's key, if it has a client here."""
        return self._live.get(key)

    def held_by(self, holder: str) -> list[LiveSession]:
        """Return the live sessions of an API key's holder."""
        return [one for one in self.all() if one.session.handle.holder == holder]

    def named(self, name: str) -> LiveSession | None:
        """Return the live session of a name, if it has a client here."""
        named = (one for one in self.all() if one.session.handle.session == name)
        return next(named, None)

    def all(self) -> list[LiveSession]:
        """Return the live sessions of everybody."""
        return [one for one in self._live.values() if one.ending is None]

    def detach(self, live: LiveSession) -> asyncio.Task[None]:
        """Save a session that has lost its client, and free its slot."""
        if live.ending is None:
            live.watches.end("closed" if live.writer is None else "away")
            live.ending = self._start(self._detach(live))
        return live.ending

    def finish(self, live: LiveSession) -> None:
        """End a session that was closed; its record stays for its last message."""
        self._end(live, SnapshotWriter.expire_soon)

    def discard(self, live: LiveSession) -> None:
        """End a session for good, and delete its record."""
        self._end(live, SnapshotWriter.delete)

    async def drained(self) -> None:
        """Wait until no live session has a whole tick left to score."""
        while any(live.session.busy for live in self._live.values()):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    async def detach_all(self) -> None:
        """Save every session and free its slot."""
        await asyncio.gather(*[self.detach(live) for live in [*self._live.values()]])

    async def look(self) -> None:
        """Save sessions that are due, and sweep the store; every `POLL_S`."""
        for live in [*self._live.values()]:
            writer = live.writer if live.ending is None else None
            if writer is not None and writer.due():
                self._start(self._save(live, writer))
        if self._clock() - self._swept_s >= SWEEP_S:
            self._swept_s = self._clock()
            self._start(self._counted(self._store.sweep(self._swept_s)))

    async def close(self) -> None:
        """Wait for what is being saved, and close the store."""
        await asyncio.gather(*self._tasks)
        await self._store.close()

    async def _create_record(self, token: str, first: Snapshot) -> Record | None:
        """Create a session's record; None where there is to be none, or it failed."""
        if self._policy.every_s == 0:
            return None
        expires_s = self._clock() + self._policy.ttl_s
        record = Record(key_of(token), 1, expires_s, encode(first))
        try:
            await self._store.create(record)
        except StoreUnavailable as error:
            self._count_failure(error)
            return None
        return record

    def _saved(
        self, record: Record, session: Session, sink: MessageSink
    ) -> LiveSession:
        owned = (record.key, record.epoch)
        writer = SnapshotWriter(self._store, owned, session, self._policy, self._clock)
        return LiveSession(record.key, session, sink, writer)

    async def _take_over(self, key: str, holder: str) -> None:
        """End a session's connection, if it has one, and wait until it is saved."""
        live = self._live.get(key)
        if live is not None:
            if live.session.handle.holder != holder:
                raise UnknownSession
            live.sink.fail(TakenOver())
            await asyncio.shield(self.detach(live))

    async def _claim(self, key: str) -> tuple[Record, Snapshot]:
        try:
            record = await self._store.claim(key, self._clock())
        except StoreUnavailable as error:
            self._count_failure(error)
            raise NotReady("the store of sessions does not answer") from None
        if record is None:
            raise UnknownSession
        try:
            return record, decode(record.data)
        except UnreadableSnapshot as error:
            LOG.error("a kept session cannot be read: %s", error)
            raise UnknownSession from None

    def _version(self, snapshot: Snapshot, request: OpenRequest) -> ServedModel:
        """Return the version that a session began on, else the current one."""
        name, content_hash = snapshot.opening.model, snapshot.model_hash
        return self._catalogue.version(name, content_hash) or request.model

    async def _save(self, live: LiveSession, writer: SnapshotWriter) -> None:
        try:
            await writer.save()
            self._observer.kept()
        except Fenced:
            live.sink.fail(TakenOver())
        except StoreError as error:
            self._count_failure(error)
        except Exception:
            LOG.exception("a session cannot be saved")
            live.sink.fail(InternalError())

    async def _detach(self, live: LiveSession) -> None:
        try:
            if live.writer is not None:
                await self._save(live, live.writer)
        finally:
            live.session.release()
            if self._live.get(live.key) is live:
                del self._live[live.key]

    def _end(
        self,
        live: LiveSession,
        last: Callable[[SnapshotWriter], Coroutine[Any, Any, None]],
    ) -> None:
        if live.ending is None:
            live.watches.end("closed")
            live.session.release()
            del self._live[live.key]
            live.ending = self._start(self._write_last(live.writer, last))

    async def _write_last(
        self,
        writer: SnapshotWriter | None,
        last: Callable[[SnapshotWriter], Coroutine[Any, Any, None]],
    ) -> None:
        if writer is not None:
            await self._counted(last(writer))

    async def _counted(self, work: Coroutine[Any, Any, object]) -> None:
        """Run work on the store; a failure is counted, not raised."""
        try:
            await work
        except StoreError as error:
            self._count_failure(error)
        except Exception:  # a fault of a library's: the session goes on unsaved
            LOG.exception("the store of sessions failed")
            self._observer.not_kept()

    def _count_failure(self, error: StoreError) -> None:
        LOG.error("%s", error)
        self._observer.not_kept()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def key_of(token: str) -> str:
    """Return a token's key in the store: a hash, so that the store leaks no token."""
    return sha256(token.encode()).hexdigest()


def check(snapshot: Snapshot, request: OpenRequest, model: ServedModel) -> None:
    """Raise unless a request may resume a session on this version of its model.

    Raises:
        UnknownSession: The session is another key's.
        ModelChanged: The session began on another version.
        InvalidField: The session was opened otherwise.
    """
    first, opening = snapshot.opening, request.opening
    if snapshot.holder != request.holder:
        raise UnknownSession
    if opening.model == first.model and snapshot.model_hash != model.content_hash:
        raise ModelChanged(model.name, snapshot.model_hash, model.content_hash)
    for name in FIXED_FIELDS:
        if getattr(first, name) != getattr(opening, name):
            raise InvalidField(name, "is not what the session was opened with")

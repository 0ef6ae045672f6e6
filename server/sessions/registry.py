"""The sessions with a client on this server: begun, resumed, detached and ended here.

Coming back is one path, whatever happened before: the session leaves its slot for the
store, if it still has one, and takes a slot again from the store. So a lost connection,
a second one with the same token and a killed server all come down to the same thing.

A session without a record in the store ends with its connection: where no snapshots are
wanted, or as long as the store has failed since the session began.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakValueDictionary

from saccade.server.engine.client import EngineClient
from saccade.server.engine.model_registry import Catalogue, ServedModel
from saccade.server.logs import about
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
from saccade.server.sessions.snapshots import Snapshot, UnreadableSnapshot, decode
from saccade.server.sessions.store_access import StoreAccess, StoreObserver
from saccade.server.sessions.stores.store import (
    Fenced,
    Record,
    Store,
    StoreUnavailable,
    first_epoch,
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
        key: Its record's key in the store.
        session: The session.
        sink: Its client's connection.
        writer: Writes its record; None where it has none for good.
        token: The token that resumes it, once there is a record.
        lost: Whether it is known to be another server's.
        watches: Its watchers.
        ending: The task that saves it, or its end, once it is not live any more.
    """

    key: str
    session: Session
    sink: MessageSink
    writer: SnapshotWriter | None
    token: str
    lost: bool = False
    watches: Watches = field(init=False)
    ending: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.watches = Watches(self.session)

    @property
    def recorded(self) -> SnapshotWriter | None:
        """The writer, where the store has a record."""
        writer = self.writer
        return writer if writer is not None and writer.recorded else None

    @property
    def confirmed(self) -> bool:
        """Whether the session is known to be this server's; see `SnapshotWriter`."""
        return self.writer is None or self.writer.confirmed


class RegistryObserver(StoreObserver, Protocol):
    """Counts what becomes of sessions."""

    def kept(self) -> None:
        """A session was saved, or its expiry renewed."""

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
        self._access = StoreAccess(store, observer)
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
        key, writer, recorded = key_of(token), None, False
        if self._policy.every_s > 0:
            writer = self._writer(key, first_epoch(self._clock()), session)
            first = Snapshot(name, opening, model.content_hash, holder)
            recorded = await writer.begin(first)
        live = self._live[key] = LiveSession(key, session, sink, writer, token)
        ttl_ms = self.ttl_ms if writer is not None else 0
        given = token if recorded else None
        handle = SessionHandle(name, given, ttl_ms, holder=holder)
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
            asked_s = self._access.now_s
            record, snapshot = await self._claim(key)
            model = self._version(snapshot, request)
            check(snapshot, request, model)
            session.resume(self._client, snapshot, model)
            writer = self._writer(key, record.epoch, session)
            writer.claimed(record, asked_s)
            live = LiveSession(key, session, request.sink, writer, token)
            self._live[key] = live
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

    @property
    def store_fails(self) -> bool:
        """Whether the store does not answer, so that nobody can claim a session."""
        return self._access.failing

    async def confirm(self, live: LiveSession) -> None:
        """Ask the store once whether a session is this server's; end it if it is not.

        `LiveSession.confirmed` tells what is known after that.
        """
        if live.writer is not None:
            await self._write(live, live.writer.confirm)

    def detach(self, live: LiveSession) -> asyncio.Task[None]:
        """Save a session that has lost its client, and free its slot."""
        if live.ending is None:
            live.watches.end("closed" if live.recorded is None else "away")
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
        returned = await self._access.look(self._clock())
        if self._access.failing:
            return
        for live in self.all():
            if live.writer is None:
                continue
            if returned:
                live.writer.doubt()
            if live.writer.due():
                self._start(self._save(live, live.writer))
            elif live.writer.check_due():
                self._start(self.confirm(live))
        if self._clock() - self._swept_s >= SWEEP_S:
            self._swept_s = self._clock()
            self._start(self._access.sweep(self._swept_s))

    async def close(self) -> None:
        """Wait for what is being saved, and close the store."""
        await asyncio.gather(*self._tasks)
        await self._access.close()

    def _writer(self, key: str, epoch: int, session: Session) -> SnapshotWriter:
        return SnapshotWriter(
            self._access, key, epoch, session, self._policy, self._clock
        )

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
            record = await self._access.claim(key, self._clock())
        except StoreUnavailable:
            raise NotReady("the store of sessions does not answer") from None
        if record is None:
            raise UnknownSession
        try:
            return record, decode(record.data)
        except UnreadableSnapshot as error:
            facts = about("session_not_saved")
            LOG.error("a kept session cannot be read: %s", error, extra=facts)
            raise UnknownSession from None

    def _version(self, snapshot: Snapshot, request: OpenRequest) -> ServedModel:
        """Return the version that a session began on, else the current one."""
        name, content_hash = snapshot.opening.model, snapshot.model_hash
        return self._catalogue.version(name, content_hash) or request.model

    async def _save(self, live: LiveSession, writer: SnapshotWriter) -> None:
        if await self._write(live, writer.save):
            self._observer.kept()
            if live.recorded and live.session.handle.token is None:
                live.session.grant(live.token)

    async def _write(
        self, live: LiveSession, work: Callable[[], Awaitable[None]]
    ) -> bool:
        """Write to a session's record; return whether that was done."""
        try:
            await work()
        except Fenced:
            live.lost = True
            live.sink.fail(TakenOver())
        except StoreUnavailable:
            pass  # the access has noted it, and the session goes on
        except Exception:
            facts = about("session_not_saved", live.session.handle.client_facts)
            LOG.exception("a session cannot be saved", extra=facts)
            live.sink.fail(InternalError())
        else:
            return True
        return False

    async def _detach(self, live: LiveSession) -> None:
        try:
            if live.recorded is not None:
                await self._save(live, live.recorded)
        finally:
            live.session.release()
            if self._live.get(live.key) is live:
                del self._live[live.key]

    def _end(
        self, live: LiveSession, last: Callable[[SnapshotWriter], Awaitable[None]]
    ) -> None:
        if live.ending is None:
            live.watches.end("closed")
            live.session.release()
            del self._live[live.key]
            live.ending = self._start(self._write_last(live, last))

    async def _write_last(
        self, live: LiveSession, last: Callable[[SnapshotWriter], Awaitable[None]]
    ) -> None:
        writer = live.recorded
        if writer is not None:
            await self._write(live, lambda: last(writer))

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

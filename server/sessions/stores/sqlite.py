"""A store in one SQLite file: it outlives the server, however the server ends.

All statements run on one thread of the store's own. Statements that wait while the
thread is busy share the next transaction, and with it the one costly wait for the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from saccade.server.sessions.stores.store import (
    Answer,
    Change,
    Check,
    Delete,
    Outcome,
    Record,
    Store,
    StoreUnavailable,
    Touch,
    first_epoch,
)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sessions (
    key TEXT PRIMARY KEY, epoch INTEGER NOT NULL, expires_s REAL NOT NULL,
    data BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_by_expiry ON sessions (expires_s);
"""
SAVE: Final = """
INSERT INTO sessions VALUES (?,?,?,?) ON CONFLICT (key) DO UPDATE
SET epoch=excluded.epoch, expires_s=excluded.expires_s, data=excluded.data
WHERE sessions.epoch<=excluded.epoch AND length(sessions.data)>0
"""
DELETE: Final = """
INSERT INTO sessions VALUES (?,?,?,x'') ON CONFLICT (key) DO UPDATE
SET epoch=excluded.epoch, expires_s=excluded.expires_s, data=excluded.data
WHERE sessions.epoch<=excluded.epoch
"""
FIND: Final = "SELECT epoch, expires_s, length(data) FROM sessions WHERE key=?"
TOUCH: Final = "UPDATE sessions SET expires_s=? WHERE key=?"
CLAIM: Final = """
UPDATE sessions SET epoch=max(epoch+1,?)
WHERE key=? AND expires_s>? AND length(data)>0
RETURNING key, epoch, expires_s, data
"""
BUSY_S: Final = 5.0
"""How long to wait while another server writes to the same file."""


class SqliteStore(Store):
    """Records in a file, in WAL mode, synchronised to the disk at each commit.

    Args:
        path: The file; file and folder are created where they are missing, readable
            by this user alone.

    Raises:
        StoreUnavailable: The file cannot be opened or is not such a store.
    """

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="session-store")
        self._waiting: list[tuple[Work, Future[Any]]] = []
        self._lock = threading.Lock()
        try:
            self._database = self._thread.submit(_open, path).result()
        except (sqlite3.Error, OSError) as error:
            self._thread.shutdown()
            raise StoreUnavailable(f"{path}: {error}") from None

    async def write(self, changes: Sequence[Change]) -> list[Answer]:
        """Do changes in one transaction; see Store."""

        def work(database: sqlite3.Connection) -> list[Answer]:
            return [_write(database, change) for change in changes]

        answers: list[Answer] = await self._do(work)
        return answers

    async def claim(self, key: str, now_s: float) -> Record | None:
        """Raise a record's epoch and return it; see Store."""
        row = (first_epoch(now_s), key, now_s)
        rows = await self._do(lambda db: db.execute(CLAIM, row).fetchall())
        return Record(*rows[0]) if rows else None

    async def sweep(self, now_s: float) -> int:
        """Delete the records that have expired; see Store."""
        statement = "DELETE FROM sessions WHERE expires_s<=?"
        count: int = await self._do(lambda db: db.execute(statement, (now_s,)).rowcount)
        return count

    async def close(self) -> None:
        """Run the statements that wait, and close the file; see Store."""
        await asyncio.wrap_future(self._thread.submit(self._database.close))
        self._thread.shutdown()

    async def _do(self, work: Work) -> Any:
        """Run statements in the next transaction; return once that is on the disk."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.append((work, future))
            first = len(self._waiting) == 1
        try:
            if first:
                self._thread.submit(self._commit)
            return await asyncio.wrap_future(future)
        except (sqlite3.Error, RuntimeError) as error:
            raise StoreUnavailable(str(error)) from None

    def _commit(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                results = [work(self._database) for work, _ in batch]
        except sqlite3.Error as error:
            for _, future in batch:
                with suppress(Exception):  # the waiting task was cancelled
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            with suppress(Exception):
                future.set_result(result)


def _write(database: sqlite3.Connection, change: Change) -> Outcome:
    match change:
        case Record(key, epoch, expires_s, data):
            done = database.execute(SAVE, (key, epoch, expires_s, data)).rowcount
            return Outcome.DONE if done else Outcome.FENCED
        case Delete():
            done = database.execute(DELETE, change).rowcount
            return Outcome.DONE if done else Outcome.FENCED
        case Touch() | Check():
            return _touch(database, change)


def _touch(database: sqlite3.Connection, change: Touch | Check) -> Outcome:
    found = database.execute(FIND, (change.key,)).fetchone()
    if found is None:
        return Outcome.MISSING
    epoch, expires_s, size = found
    if epoch > change.epoch or not size:
        return Outcome.FENCED
    if (epoch, expires_s) != (change.epoch, change.was_s):
        return Outcome.MISSING
    if isinstance(change, Touch):
        database.execute(TOUCH, (change.expires_s, change.key))
    return Outcome.DONE


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.executescript(SCHEMA)
    return database

"""The way to the store for all sessions of one process.

What sessions have to write goes to the store in one exchange after another, each with
all that waits. While the store fails, no session waits for it: a probe asks from time
to time whether it works again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

from saccade.server.logs import about
from saccade.server.sessions.snapshots import Snapshot, encode
from saccade.server.sessions.stores.store import (
    Answer,
    Change,
    Delete,
    Outcome,
    Record,
    Store,
    StoreError,
    StoreUnavailable,
)

LOG: Final = logging.getLogger(__name__)

T = TypeVar("T")

MOST_CHANGES: Final = 256
"""Changes of one exchange; others wait for the next."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
"""The first and the longest wait before a store that failed is probed; doubled."""
QUIET_S: Final = 5.0
"""An outage is over once nothing has failed for so long."""
PROBE_KEY: Final = "probe"
PROBE_S: Final = 60.0


def uptime_s() -> float:
    """Return the time since the machine started, s, sleep included where it counts."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Save(NamedTuple):
    """A snapshot to encode and save.

    Attributes:
        key: The record's key.
        epoch: The owner's epoch.
        expires_s: When the record may be deleted, in s since 1970.
        snapshot: The session.
    """

    key: str
    epoch: int
    expires_s: float
    snapshot: Snapshot


class Written(NamedTuple):
    """What became of a change.

    Attributes:
        outcome: As the store answered.
        asked_s: When the store was asked, by `StoreAccess.now_s`.
        size: Of the record that was saved, bytes; 0 for any other change.
    """

    outcome: Outcome
    asked_s: float
    size: int = 0


class StoreObserver(Protocol):
    """Counts what is saved in the store, and its failures."""

    def saved(self, seconds: float, size: int) -> None:
        """The store has a session's snapshot.

        Args:
            seconds: Since the snapshot was begun, s.
            size: Of the record, bytes.
        """

    def not_kept(self) -> None:
        """An exchange with the store failed; it is tried again later."""

    def store_works(self, *, works: bool) -> None:
        """An outage of the store began, or is over."""


_Future: TypeAlias = "asyncio.Future[Written]"
_Waiting: TypeAlias = tuple[Change | Save, _Future]


class StoreAccess:
    """Does the changes of all sessions, those that wait in one exchange.

    All calls are on one event loop.

    Args:
        store: The store.
        observer: Counts failures.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        store: Store,
        observer: StoreObserver,
        clock: Callable[[], float] = uptime_s,
    ) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock
        # One thread, not asyncio's several: C's allocator keeps freed memory for each
        # thread, and snapshots of congested sessions are its largest blocks.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._waiting: list[_Waiting] = []
        self._exchanges: asyncio.Task[None] | None = None
        self._failures = 0
        self._pause_s = 0.0
        self._failed_s = self._began_s = 0.0
        self._outage = False

    @property
    def failing(self) -> bool:
        """Whether the newest exchange failed: nothing need be tried but a probe."""
        return self._pause_s > 0

    def count_saved(self, seconds: float, size: int) -> None:
        """Count a snapshot that the store has; see `StoreObserver.saved`."""
        self._observer.saved(seconds, size)

    @property
    def now_s(self) -> float:
        """The time by the clock of `Written.asked_s`."""
        return self._clock()

    async def write(self, change: Change | Save) -> Written:
        """Do a change in the next exchange.

        Raises:
            StoreUnavailable: It could not be done.
        """
        future: _Future = asyncio.get_running_loop().create_future()
        self._waiting.append((change, future))
        if self._exchanges is None or self._exchanges.done():
            self._exchanges = asyncio.create_task(self._exchange_all())
        return await future

    async def claim(self, key: str, now_s: float) -> Record | None:
        """Claim a record at once; see `Store.claim`.

        Raises:
            StoreUnavailable: It could not be claimed.
        """
        return await self._noted(self._store.claim(key, now_s))

    async def sweep(self, now_s: float) -> None:
        """Delete the records that have expired, unless the store fails."""
        if not self.failing:
            await self._quietly(self._store.sweep(now_s))

    async def look(self, now_s: float) -> bool:
        """Probe a store that fails, once its pause is over.

        Args:
            now_s: Seconds since 1970.

        Returns:
            Whether the store has just begun to work again.
        """
        if not self.failing:
            self._end_outage()
            return False
        if self._clock() < self._failed_s + self._pause_s:
            return False
        probe = Delete(PROBE_KEY, 0, now_s + PROBE_S)
        await self._quietly(self._store.write([probe]))
        return not self.failing

    async def close(self) -> None:
        """Wait for the exchange under way, and close the store."""
        if self._exchanges is not None:
            await self._exchanges
        self._encoder.shutdown()
        await self._store.close()

    async def _exchange_all(self) -> None:
        while self._waiting:
            taken = self._waiting[:MOST_CHANGES]
            del self._waiting[:MOST_CHANGES]
            changes, futures = await self._encode(taken)
            asked_s = self._clock()
            try:
                answers = await self._noted(self._store.write(changes))
            except StoreUnavailable as error:
                futures += [future for _, future in self._waiting]
                self._waiting.clear()  # nobody waits for a store that hangs
                self._refuse(futures, error)
            except BaseException:
                ended = StoreUnavailable("the exchange with it was ended")
                self._refuse(futures, ended)
                raise
            else:
                self._answer(changes, futures, answers, asked_s)

    async def _encode(
        self, waiting: list[_Waiting]
    ) -> tuple[list[Change], list[_Future]]:
        """Write snapshots as bytes; a failure is only the session's whose it is."""
        changes = [change for change, _ in waiting]
        if any(isinstance(change, Save) for change in changes):
            loop = asyncio.get_running_loop()
            encoded = await loop.run_in_executor(self._encoder, _all_encoded, changes)
        else:
            encoded = _all_encoded(changes)
        done, futures = [], []
        for change, (_, future) in zip(encoded, waiting, strict=True):
            if not isinstance(change, Exception):
                done.append(change)
                futures.append(future)
            elif not future.done():
                future.set_exception(change)
        return done, futures

    def _refuse(self, futures: list[_Future], error: StoreUnavailable) -> None:
        if not self.failing:
            self._note_failure(error)
        for future in futures:
            if not future.done():
                future.set_exception(StoreUnavailable(error.reason))

    def _answer(
        self,
        changes: list[Change],
        futures: list[_Future],
        answers: list[Answer],
        asked_s: float,
    ) -> None:
        failures = [each for each in answers if isinstance(each, StoreUnavailable)]
        if failures and not self.failing:
            self._note_failure(failures[0])
        for change, future, answer in zip(changes, futures, answers, strict=True):
            if future.done():  # its session waits no more
                continue
            if isinstance(answer, Outcome):
                size = len(change.data) if isinstance(change, Record) else 0
                future.set_result(Written(answer, asked_s, size))
            else:
                future.set_exception(StoreUnavailable(answer.reason))

    async def _noted(self, work: Awaitable[T]) -> T:
        """Wait for the store's answer, and note whether it works.

        Raises:
            StoreUnavailable: It does not; also for a fault of a library's.
        """
        try:
            found = await work
        except StoreUnavailable as error:
            self._note_failure(error)
            raise
        except Exception as error:
            if not self._outage:
                LOG.exception(
                    "the store of sessions failed", extra=about("store_fault")
                )
            failure = StoreUnavailable(f"{type(error).__name__}: {error}")
            self._note_failure(failure)
            raise failure from None
        self._pause_s = 0.0
        return found

    async def _quietly(self, work: Awaitable[object]) -> None:
        try:
            await self._noted(work)
        except StoreError as error:
            LOG.debug(
                "the store did not answer: %s", error, extra=about("store_outage")
            )

    def _note_failure(self, error: StoreUnavailable) -> None:
        self._observer.not_kept()
        self._failed_s = self._clock()
        self._pause_s = min(2 * self._pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        if not self._outage:
            self._outage, self._failures, self._began_s = True, 0, self._failed_s
            self._observer.store_works(works=False)
            LOG.error(
                "%s; sessions go on, and are saved once it works again",
                error,
                extra=about("store_outage"),
            )
        self._failures += 1

    def _end_outage(self) -> None:
        quiet_s = self._clock() - self._failed_s
        if self._outage and quiet_s >= QUIET_S:
            self._outage = False
            failed_s, failures = self._failed_s - self._began_s, self._failures
            self._observer.store_works(works=True)
            LOG.warning(
                "the store of sessions works again: it failed for %.1f s, %d times",
                failed_s,
                failures,
                extra=about("store_recovered", failed_s=failed_s, failures=failures),
            )


def _all_encoded(changes: list[Change | Save]) -> list[Change | Exception]:
    return [*map(_encoded, changes)]


def _encoded(change: Change | Save) -> Change | Exception:
    """Write a change's snapshot, if it has one, as bytes; return what goes wrong."""
    if not isinstance(change, Save):
        return change
    try:
        data = encode(change.snapshot)
    except Exception as error:
        return error
    return Record(change.key, change.epoch, change.expires_s, data)

"""What a store of sessions does; one module each for the kinds of it.

A record belongs to whoever claimed it last: each claim raises its epoch, and a save
under an older epoch is refused. So two servers may share a store, and a session that
moved from one to the other is never overwritten by the one that it left.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """One session, kept.

    Attributes:
        key: Names it; a hash of the client's token, which is nowhere written.
        epoch: How often it was claimed.
        expires_s: When it may be thrown away, in s since 1970.
        data: Its snapshot.
    """

    key: str
    epoch: int
    expires_s: float
    data: bytes


class StoreError(Exception):
    """Something about a store.

    StoreError
    ├── Fenced              somebody else has claimed the session since, or ended it
    └── StoreUnavailable    the store cannot be read or written
    """


class Fenced(StoreError):
    """The record has another owner by now, or is gone."""

    def __str__(self) -> str:
        return "another server has claimed the session, or it has ended"


class StoreUnavailable(StoreError):
    """The store cannot be read or written."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the store of sessions does not work: {self.reason}"


class Store(ABC):
    """Keeps records until they expire.

    Every method may raise `StoreUnavailable`. What has returned is durable, as far as
    the kind of store goes.
    """

    @abstractmethod
    async def create(self, record: Record) -> None:
        """Keep a new record."""

    @abstractmethod
    async def save(self, record: Record) -> None:
        """Replace a record that is held under the same epoch.

        Raises:
            Fenced: It is not.
        """

    @abstractmethod
    async def claim(self, key: str, now_s: float) -> Record | None:
        """Raise a record's epoch and return it; None where none is, or it expired."""

    @abstractmethod
    async def touch(self, key: str, epoch: int, expires_s: float) -> None:
        """Let a record expire at another time, if it is held under this epoch."""

    @abstractmethod
    async def delete(self, key: str, epoch: int) -> None:
        """Throw a record away, if it is held under this epoch."""

    @abstractmethod
    async def sweep(self, now_s: float) -> int:
        """Throw away what has expired; return how many."""

    @abstractmethod
    async def close(self) -> None:
        """Give back what the store holds open; it is not used again."""

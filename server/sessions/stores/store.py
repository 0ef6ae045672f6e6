"""The interface of a store of sessions; each kind of store is a module beside this one.

A record belongs to the server that claimed it last: each claim raises its epoch, and a
save under an older epoch is refused. So two servers may share a store, and a session
that moved from one to the other is never overwritten by the one that it left.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """One session as a store keeps it.

    Attributes:
        key: A hash of the client's token; the token itself is written nowhere.
        epoch: How often the record was claimed.
        expires_s: When the record may be deleted, in s since 1970.
        data: The session's snapshot.
    """

    key: str
    epoch: int
    expires_s: float
    data: bytes


class StoreError(Exception):
    """Base of the stores' errors.

    StoreError
    ├── Fenced              another server has claimed the session since, or ended it
    └── StoreUnavailable    the store cannot be read or written
    """


class Fenced(StoreError):
    """The record belongs to another server by now, or is gone."""

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

    Every method may raise `StoreUnavailable`. A change is durable once its method has
    returned, as far as the kind of store goes.
    """

    @abstractmethod
    async def create(self, record: Record) -> None:
        """Keep a new record."""

    @abstractmethod
    async def save(self, record: Record) -> None:
        """Replace a record of the same epoch.

        Raises:
            Fenced: The record has another epoch, or is gone.
        """

    @abstractmethod
    async def claim(self, key: str, now_s: float) -> Record | None:
        """Raise a record's epoch and return it; None if it is gone or has expired."""

    @abstractmethod
    async def touch(self, key: str, epoch: int, expires_s: float) -> None:
        """Set when a record expires, if it has this epoch."""

    @abstractmethod
    async def delete(self, key: str, epoch: int) -> None:
        """Delete a record, if it has this epoch."""

    @abstractmethod
    async def sweep(self, now_s: float) -> int:
        """Delete the records that have expired; return how many."""

    @abstractmethod
    async def close(self) -> None:
        """Close files and connections; the store is not used again."""

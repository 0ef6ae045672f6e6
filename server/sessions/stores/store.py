"""The interface of a store of sessions; each kind of store is a module beside this one.

A record belongs to the server that claimed it last. Each claim raises the record's
epoch, and who owns an older epoch is fenced: no change of theirs is done. So two
servers may share a store, and a session that moved from one to the other is never
overwritten by the one that it left.

A store may lose what it was given: one without persistence is restarted, or fails over
to a replica that lags behind. So nothing is read into what is missing, and an epoch
that is older than the owner's is no one else's claim: the owner's next save makes the
record again. A deleted record leaves a tombstone, which no save replaces.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias


@dataclass(frozen=True, slots=True)
class Record:
    """One session as a store keeps it; as a change: save it.

    Attributes:
        key: A hash of the client's token; the token itself is written nowhere.
        epoch: Which claim of the record its owner has: the later, the larger.
        expires_s: When the record may be deleted, in s since 1970.
        data: The session's snapshot; empty in a tombstone.
    """

    key: str
    epoch: int
    expires_s: float
    data: bytes


class Touch(NamedTuple):
    """A change: set when a record expires.

    Attributes:
        key: The record's key.
        epoch: The owner's epoch.
        was_s: When the record expires as its owner wrote it last: a record that
            expires at another time holds another snapshot.
        expires_s: When it is to expire.
    """

    key: str
    epoch: int
    was_s: float
    expires_s: float


class Check(NamedTuple):
    """No change: ask whether a record is its owner's, as `Touch` would."""

    key: str
    epoch: int
    was_s: float


class Delete(NamedTuple):
    """A change: put a tombstone in a record's place.

    Attributes:
        key: The record's key.
        epoch: The owner's epoch.
        expires_s: When the tombstone may be deleted, in s since 1970.
    """

    key: str
    epoch: int
    expires_s: float


Change: TypeAlias = Record | Touch | Check | Delete


class Outcome(Enum):
    """What became of a change.

    Attributes:
        FENCED: Not done: the record has a larger epoch, or is a tombstone.
        DONE: Done, and durable as far as the kind of store goes.
        MISSING: Not done: the record is missing, or is not as its owner wrote it
            last; the owner is to save it again.
    """

    FENCED = 0
    DONE = 1
    MISSING = 2


class StoreError(Exception):
    """Base of the stores' errors.

    StoreError
    ├── Fenced              another server has claimed the session since, or ended it
    └── StoreUnavailable    the store cannot be read or written
    """


class Fenced(StoreError):
    """The record belongs to another server by now, or was deleted."""

    def __str__(self) -> str:
        return "another server has claimed the session, or it has ended"


class StoreUnavailable(StoreError):
    """The store cannot be read or written."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the store of sessions does not work: {self.reason}"


Answer: TypeAlias = Outcome | StoreUnavailable
"""What became of one of several changes; some may fail where others do not."""


class Store(ABC):
    """Keeps records until they expire.

    Every method may raise `StoreUnavailable`.
    """

    @abstractmethod
    async def write(self, changes: Sequence[Change]) -> list[Answer]:
        """Do changes in one exchange, each for itself; return what became of each.

        A record that is saved, and a tombstone, are made where there is none.
        """

    @abstractmethod
    async def claim(self, key: str, now_s: float) -> Record | None:
        """Raise a record's epoch and return the record.

        The new epoch is the old one plus one or, where that is larger, the time in ms:
        larger than those of claims that the store has lost.

        Args:
            key: The record's key.
            now_s: Seconds since 1970.

        Returns:
            None where the record is missing, has expired, or is a tombstone.
        """

    @abstractmethod
    async def sweep(self, now_s: float) -> int:
        """Delete the records that have expired; return how many."""

    @abstractmethod
    async def close(self) -> None:
        """Close files and connections; the store is not used again."""


def first_epoch(now_s: float) -> int:
    """Return the epoch of a record that is made now; see `Store.claim`."""
    return int(1000 * now_s)


def next_epoch(epoch: int, now_s: float) -> int:
    """Return the epoch of a claim; see `Store.claim`."""
    return max(epoch + 1, first_epoch(now_s))

"""A store in this process: it outlives connections, but not the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from saccade.server.sessions.stores.store import (
    Answer,
    Change,
    Check,
    Delete,
    Outcome,
    Record,
    Store,
    Touch,
    next_epoch,
)


class MemoryStore(Store):
    """Records in a dictionary."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    async def write(self, changes: Sequence[Change]) -> list[Answer]:
        """Do changes; see Store."""
        return [self._write(change) for change in changes]

    async def claim(self, key: str, now_s: float) -> Record | None:
        """Raise a record's epoch and return it; see Store."""
        record = self._records.get(key)
        if record is None or not record.data or record.expires_s <= now_s:
            return None
        claimed = replace(record, epoch=next_epoch(record.epoch, now_s))
        self._records[key] = claimed
        return claimed

    async def sweep(self, now_s: float) -> int:
        """Delete the records that have expired; see Store."""
        expired = [r.key for r in self._records.values() if r.expires_s <= now_s]
        for key in expired:
            del self._records[key]
        return len(expired)

    async def close(self) -> None:
        """Delete all records; see Store."""
        self._records.clear()

    def _write(self, change: Change) -> Outcome:
        stored = self._records.get(change.key)
        if stored is not None and stored.epoch > change.epoch:
            return Outcome.FENCED
        if isinstance(change, Delete):
            self._records[change.key] = Record(*change, data=b"")
            return Outcome.DONE
        if stored is not None and not stored.data:
            return Outcome.FENCED
        match change:
            case Record():
                self._records[change.key] = change
                return Outcome.DONE
            case Touch() | Check():
                return self._touch(change, stored)

    def _touch(self, change: Touch | Check, stored: Record | None) -> Outcome:
        owned = (change.epoch, change.was_s)
        if stored is None or (stored.epoch, stored.expires_s) != owned:
            return Outcome.MISSING
        if isinstance(change, Touch):
            touched = replace(stored, expires_s=change.expires_s)
            self._records[change.key] = touched
        return Outcome.DONE

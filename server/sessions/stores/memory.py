"""A store in this process: it outlives connections, but not the server."""

from __future__ import annotations

from dataclasses import replace

from saccade.server.sessions.stores.store import Fenced, Record, Store


class MemoryStore(Store):
    """Records in a dictionary."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    async def create(self, record: Record) -> None:
        """Keep a new record; see Store."""
        self._records[record.key] = record

    async def save(self, record: Record) -> None:
        """Replace a record; see Store."""
        if self._held(record.key, record.epoch) is None:
            raise Fenced
        self._records[record.key] = record

    async def claim(self, key: str, now_s: float) -> Record | None:
        """Raise a record's epoch and return it; see Store."""
        record = self._records.get(key)
        if record is None or record.expires_s <= now_s:
            return None
        self._records[key] = replace(record, epoch=record.epoch + 1)
        return self._records[key]

    async def touch(self, key: str, epoch: int, expires_s: float) -> None:
        """Change when a record expires; see Store."""
        record = self._held(key, epoch)
        if record is not None:
            self._records[key] = replace(record, expires_s=expires_s)

    async def delete(self, key: str, epoch: int) -> None:
        """Delete a record; see Store."""
        if self._held(key, epoch) is not None:
            del self._records[key]

    async def sweep(self, now_s: float) -> int:
        """Delete the records that have expired; see Store."""
        expired = [r.key for r in self._records.values() if r.expires_s <= now_s]
        for key in expired:
            del self._records[key]
        return len(expired)

    async def close(self) -> None:
        """Delete all records; see Store."""
        self._records.clear()

    def _held(self, key: str, epoch: int) -> Record | None:
        record = self._records.get(key)
        return record if record is not None and record.epoch == epoch else None

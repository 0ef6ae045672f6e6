"""A snapshot writer and a session that has ended."""

from __future__ import annotations

from saccade.server.sessions.snapshot_writer import SnapshotPolicy, SnapshotWriter
from saccade.server.sessions.stores.memory import MemoryStore
from saccade.server.sessions.stores.store import Record
from tests.server.sessions.test_session import Client
from tests.toy import some_events


async def test_a_session_that_was_released_meanwhile_is_not_asked_for_a_snapshot() -> (
    None
):
    """Its slot may be leased to another session by then."""
    store, client = MemoryStore(), Client()
    await store.create(Record("k", 1, 1e12, b""))
    writer = SnapshotWriter(store, ("k", 1), client.session, SnapshotPolicy())
    client.send(some_events(1))
    client.session.release()
    assert not writer.due()
    await writer.save()  # the fake stream has no `export`: asking would raise
    record = await store.claim("k", 0.0)
    assert record is not None
    assert record.data == b""

"""What a keeper does with a session that is no longer there."""

from __future__ import annotations

from saccade.server.sessions.snapshot_writer import SnapshotPolicy, SnapshotWriter
from saccade.server.sessions.stores.memory import MemoryStore
from saccade.server.sessions.stores.store import Record
from tests.server.sessions.test_session import Client
from tests.toy import some_events


async def test_a_session_that_was_released_meanwhile_is_not_asked_for_a_snapshot() -> (
    None
):
    """The engine has lent its slot to somebody else by then."""
    store, client = MemoryStore(), Client()
    await store.create(Record("k", 1, 1e12, b""))
    keeper = SnapshotWriter(
        store, ("k", 1), client.session, client.desk, SnapshotPolicy()
    )
    client.send(some_events(1))
    client.session.release()
    assert not keeper.due()
    await keeper.keep()  # its desk has no `export`: asking would raise
    record = await store.claim("k", 0.0)
    assert record is not None
    assert record.data == b""

"""Sessions without snapshots: live like any other, and over with their connection."""

from __future__ import annotations

import asyncio

import pytest

from saccade.server.engine.model_registry import Catalogue
from saccade.server.protocol.errors import UnknownSession
from saccade.server.protocol.messages import Open, Opened, Result
from saccade.server.sessions.registry import (
    LiveSession,
    OpenRequest,
    SessionRegistry,
    key_of,
)
from saccade.server.sessions.snapshot_writer import SnapshotPolicy
from saccade.server.sessions.stores.memory import MemoryStore
from saccade.server.sessions.stores.store import Record, StoreUnavailable
from tests.server.sessions.bench import Bench, BenchClient
from tests.toy import some_events

BENCH = Bench()


class BrokenStore(MemoryStore):
    async def create(self, record: Record) -> None:
        raise StoreUnavailable("the disk is full")


class Counts:
    def __init__(self) -> None:
        self.events: list[str] = []

    def kept(self) -> None:
        self.events.append("kept")

    def not_kept(self) -> None:
        self.events.append("not kept")

    def resumed(self) -> None:
        self.events.append("resumed")


class Case:
    """A registry with one session that has no record in the store."""

    def __init__(self, store: MemoryStore, policy: SnapshotPolicy) -> None:
        BENCH.begin()
        self.counts = Counts()
        self.store = store
        self.registry = SessionRegistry(
            BENCH.client, Catalogue([BENCH.model]), store, policy, self.counts
        )
        self.client = BenchClient(BENCH.model, Open("toy"))

    async def begin(self) -> LiveSession:
        request = OpenRequest(self.client.opening, BENCH.model, self.client, "ann")
        return await self.registry.begin(self.client.session, request)


@pytest.fixture(params=["no snapshots", "a broken store"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "no snapshots":
        return Case(MemoryStore(), SnapshotPolicy(every_s=0))
    return Case(BrokenStore(), SnapshotPolicy())


async def test_it_has_no_token_and_no_record_and_is_listed(case: Case) -> None:
    live = await case.begin()
    (opened,) = case.client.of(Opened)
    assert (opened.resume, opened.resume_ttl_ms) == (None, 0)
    assert case.store._records == {}
    assert case.registry.held_by("ann") == [live]
    assert case.registry.held_by("bob") == []


@pytest.mark.parametrize("end", ["detach", "finish", "discard"])
async def test_its_end_frees_the_slot_and_writes_nothing(case: Case, end: str) -> None:
    live = await case.begin()
    written = list(case.counts.events)
    case.client.send(some_events(5))
    getattr(case.registry, end)(live)
    await case.registry.close()
    assert case.registry.held_by("ann") == []
    assert BENCH.client.open_streams("toy") == 0
    assert case.store._records == {}
    assert case.counts.events == written


async def test_a_drain_waits_for_its_last_tick(case: Case) -> None:
    await case.begin()
    case.client.send(some_events(20))
    drain = asyncio.create_task(case.registry.drained())
    await asyncio.sleep(0)
    assert not drain.done()
    BENCH.run()
    await drain
    assert case.client.of(Result)[-1].ticks == 10
    await case.registry.detach_all()
    assert BENCH.client.open_streams("toy") == 0


async def test_without_snapshots_no_token_resumes_a_session() -> None:
    case = Case(MemoryStore(), SnapshotPolicy(every_s=0))
    await case.begin()
    again = BenchClient(BENCH.model, Open("toy", resume="a token of another time"))
    assert case.registry.sink_of("a token of another time") is None
    request = OpenRequest(again.opening, BENCH.model, again)
    with pytest.raises(UnknownSession):
        await case.registry.resume(again.session, request)
    assert key_of("a token of another time") not in case.registry._live

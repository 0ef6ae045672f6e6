"""Sessions and the store: without a record, with one, and with one that is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence

import pytest

from saccade.server.engine.model_registry import Catalogue
from saccade.server.protocol.errors import TakenOver, UnknownSession
from saccade.server.protocol.messages import Ack, Open, Opened, Result
from saccade.server.sessions.registry import (
    LiveSession,
    OpenRequest,
    SessionRegistry,
    key_of,
)
from saccade.server.sessions.snapshot_writer import SnapshotPolicy
from saccade.server.sessions.store_access import PROBE_KEY
from saccade.server.sessions.stores.memory import MemoryStore
from saccade.server.sessions.stores.store import (
    Answer,
    Change,
    Record,
    StoreUnavailable,
)
from saccade.server.sessions.watch_desk import Collected, WatchDesk, WatchRequest
from tests.server.sessions.bench import Bench, BenchClient
from tests.toy import some_events

BENCH = Bench()


class BrokenStore(MemoryStore):
    """A store that fails until it is repaired."""

    broken = True

    async def write(self, changes: Sequence[Change]) -> list[Answer]:
        if self.broken:
            raise StoreUnavailable("the disk is full")
        return await super().write(changes)


class Counts:
    def __init__(self) -> None:
        self.events: list[str] = []

    def kept(self) -> None:
        self.events.append("kept")

    def saved(self, seconds: float, size: int) -> None:
        assert seconds > 0
        assert size > 0

    def not_kept(self) -> None:
        self.events.append("not kept")

    def resumed(self) -> None:
        self.events.append("resumed")

    def store_works(self, *, works: bool) -> None:
        self.events.append("works again" if works else "outage")


class Case:
    """A registry with one session."""

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

    async def look_until(self, condition: Callable[[], object]) -> None:
        """Let the registry look for work, and the device do it."""
        end_s = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end_s, "waited in vain"
            await self.registry.look()
            await asyncio.sleep(0.01)
            BENCH.run()

    @property
    def records(self) -> dict[str, Record]:
        kept = self.store._records.items()
        return {key: record for key, record in kept if key != PROBE_KEY}


@pytest.fixture(params=["no snapshots", "a broken store"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "no snapshots":
        return Case(MemoryStore(), SnapshotPolicy(every_s=0))
    return Case(BrokenStore(), SnapshotPolicy())


async def test_it_has_no_token_and_no_record_and_is_listed(case: Case) -> None:
    live = await case.begin()
    (opened,) = case.client.of(Opened)
    later = isinstance(case.store, BrokenStore)
    assert (opened.resume, opened.resume_ttl_ms) == (None, 300_000 if later else 0)
    assert case.records == {}
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
    assert case.records == {}
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


OFTEN = SnapshotPolicy(every_s=0.01, lease_s=0.05)


async def test_a_session_begun_without_a_store_has_its_token_once_there_is_one() -> (
    None
):
    store = BrokenStore()
    case = Case(store, OFTEN)
    live = await case.begin()
    case.client.send(some_events(6))
    BENCH.run()
    assert all(ack.resume is None for ack in case.client.of(Ack))
    store.broken = False
    await case.look_until(lambda: case.client.of(Ack)[-1].resume)
    newest = case.client.of(Ack)[-1]
    assert (key_of(newest.resume), newest.durable_seq) == (live.key, 1)
    assert case.records.keys() == {live.key}
    again = BenchClient(BENCH.model, Open("toy", resume=newest.resume))
    request = OpenRequest(again.opening, BENCH.model, again, "ann")
    await case.registry.resume(again.session, request)
    assert again.of(Opened)[-1].seq == 1
    await case.registry.close()


async def test_a_store_that_fails_is_one_outage_with_a_beginning_and_an_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.server.sessions.store_access.QUIET_S", 0.3)
    store = BrokenStore()
    case = Case(store, OFTEN)
    await case.begin()
    await case.look_until(lambda: case.counts.events.count("not kept") >= 3)
    store.broken = False
    await case.look_until(lambda: "works again" in case.counts.events)
    assert case.counts.events.count("outage") == 1
    started, ended = [one.message for one in caplog.records]
    assert "the disk is full" in started
    assert "works again: it failed for" in ended
    await case.registry.close()


async def test_a_record_that_the_store_has_lost_is_made_again() -> None:
    case = Case(MemoryStore(), OFTEN)
    live = await case.begin()
    case.client.send(some_events(6))
    await case.look_until(lambda: live.session.conversation.ledger.durable_seq == 1)
    case.store._records.clear()
    assert live.writer is not None
    live.writer.doubt()
    await case.look_until(lambda: live.key in case.records)
    assert case.client.errors == []
    await case.registry.close()


async def test_an_owner_is_not_confirmed_for_longer_than_its_lease() -> None:
    case, now_s = Case(MemoryStore(), SnapshotPolicy(lease_s=5.0)), [100.0]
    case.registry._access._clock = lambda: now_s[0]
    live = await case.begin()
    assert live.confirmed
    now_s[0] += 5.1
    assert not live.confirmed
    await case.registry.confirm(live)
    assert live.confirmed
    taken = await case.store.claim(live.key, time.time())
    assert taken is not None
    assert live.confirmed  # a claim waits for no lease
    now_s[0] += 5.1
    await case.registry.confirm(live)
    assert (live.confirmed, live.lost) == (False, True)
    assert [type(error) for error in case.client.errors] == [TakenOver]
    assert case.records == {live.key: taken}
    await case.registry.close()


async def test_a_watcher_sees_nothing_of_a_session_that_is_another_servers() -> None:
    case, now_s = Case(MemoryStore(), SnapshotPolicy(lease_s=5.0)), [100.0]
    case.registry._access._clock = lambda: now_s[0]
    live = await case.begin()
    desk = WatchDesk(case.registry)
    watched = WatchRequest(live.session.handle.session, "ann", False, 50_000, True)
    watch = desk.begin(watched)
    assert watch is not None
    first = await desk.collect(watch, text=True)
    case.client.send(some_events(6))
    BENCH.run()
    now_s[0] += 5.1  # its own by now, as the store says once it is asked
    assert types_of(await desk.collect(watch, text=True)) == ["events", "result"]
    await case.store.claim(live.key, time.time())
    now_s[0] += 5.1
    case.client.send(some_events(12)[6:])
    BENCH.run()
    last = await desk.collect(watch, text=True)
    assert (types_of(first), types_of(last)) == (["watching"], ["ended"])
    assert last.ended
    await case.registry.close()


def types_of(collected: Collected) -> list[str]:
    return [json.loads(message)["type"] for message in collected.messages]

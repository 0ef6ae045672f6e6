"""When a session is saved, and how many of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from saccade.server.sessions.snapshot_writer import (
    COPIED_EVENTS,
    SnapshotPolicy,
    SnapshotWriter,
)
from saccade.server.sessions.snapshots import decode
from saccade.server.sessions.store_access import StoreAccess
from saccade.server.sessions.stores.memory import MemoryStore
from saccade.server.sessions.stores.store import Answer, Change, Record
from tests.server.sessions.bench import Bench, BenchClient
from tests.toy import some_events

BENCH = Bench()


class CountingStore(MemoryStore):
    """A store that counts the changes of each exchange."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[int] = []

    async def write(self, changes: Sequence[Change]) -> list[Answer]:
        self.exchanges.append(len(changes))
        return await super().write(changes)


class Silent:
    def saved(self, seconds: float, size: int) -> None:
        pass

    def not_kept(self) -> None:
        pass

    def store_works(self, *, works: bool) -> None:
        pass


class Case:
    """A session with a record in a store, a device, and a clock."""

    def __init__(
        self, policy: SnapshotPolicy, store: MemoryStore | None = None
    ) -> None:
        BENCH.begin()
        self.now_s = 1000.0
        self.store = store or CountingStore()
        self.access = StoreAccess(self.store, Silent(), lambda: self.now_s)
        self.policy = policy
        self.client, self.writer = self.another("k")

    def another(self, key: str) -> tuple[BenchClient, SnapshotWriter]:
        client = BENCH.open()
        writer = SnapshotWriter(
            self.access, key, 1, client.session, self.policy, lambda: self.now_s
        )
        kept = Record(key, 1, self.now_s + self.policy.ttl_s, b"first")
        self.store._records[key] = kept
        writer.claimed(kept, self.now_s)
        return client, writer

    def due_after(self, seconds: float) -> bool:
        self.now_s += seconds
        return self.writer.due()

    async def done(self, *works: Callable[[], object]) -> None:
        """Do what waits for the device, while the device runs."""
        tasks = [asyncio.ensure_future(work()) for work in works]  # type: ignore[call-overload]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.001)
            BENCH.run()
        await asyncio.gather(*tasks)


def test_a_session_that_moved_is_saved_after_the_period_at_the_latest() -> None:
    case = Case(SnapshotPolicy(every_s=10.0))
    assert not case.due_after(20.0)  # it has not changed
    case.client.send(some_events(3))
    BENCH.run()
    assert case.due_after(0.0)


async def test_periods_differ_so_that_sessions_are_not_saved_at_once() -> None:
    case = Case(SnapshotPolicy(every_s=10.0))
    periods = set()
    for _ in range(8):
        case.client.send(some_events(1))
        await case.done(case.writer.save)
        periods.add(case.writer._period_s)
    assert len(periods) == 8
    assert all(7.5 <= period <= 10.0 for period in periods)


@pytest.mark.parametrize("bound", [{"every_events": 4}, {"every_bytes": 32}])
async def test_a_session_is_saved_once_it_would_take_long_to_send_again(
    bound: dict[str, int],
) -> None:
    case = Case(SnapshotPolicy(every_s=1e9, **bound))
    case.client.send(some_events(3))
    BENCH.run()
    assert not case.writer.due()
    case.client.send(some_events(1, start_us=10_000))
    BENCH.run()
    assert case.writer.due()
    await case.done(case.writer.save)
    assert not case.writer.due()
    assert decode(case.store._records["k"].data).seq == 2


def test_a_snapshot_waits_a_little_for_a_moment_without_ticks_to_copy() -> None:
    case = Case(SnapshotPolicy(every_s=1e9, every_events=100))
    case.client.send(some_events(110))
    assert case.client.session.busy
    assert not case.writer.due()
    BENCH.run()
    assert case.writer.due()
    case.client.send(some_events(20, start_us=10**6))
    assert case.client.session.busy
    assert case.writer.due()  # it has waited enough


def test_a_session_with_much_under_way_is_saved_less_often() -> None:
    case = Case(SnapshotPolicy(every_s=1.0))
    case.client.send(some_events(4))
    assert case.due_after(1.25)
    case.client.session._fresh.came(4 * COPIED_EVENTS, 0.0)
    assert not case.due_after(1.0)
    assert case.due_after(3.0)


async def test_a_session_that_was_released_meanwhile_is_not_asked_for_a_snapshot() -> (
    None
):
    """Its slot may be leased to another session by then."""
    case = Case(SnapshotPolicy())
    case.client.send(some_events(1))
    case.client.session.release()
    assert not case.writer.due()
    await case.done(case.writer.save)
    record = case.store._records["k"]
    assert (record.data, record.expires_s) == (b"first", case.now_s + 300.0)


async def test_sessions_that_are_saved_together_go_in_one_exchange() -> None:
    store = CountingStore()
    case = Case(SnapshotPolicy(), store)
    pairs = [(case.client, case.writer), case.another("l"), case.another("m")]
    for client, _ in pairs:
        client.send(some_events(5))
    await case.done(*(writer.save for _, writer in pairs))
    assert store.exchanges == [3]


async def test_only_a_session_that_moves_is_checked_and_before_its_lease_is_over() -> (
    None
):
    case = Case(SnapshotPolicy(lease_s=10.0))
    case.now_s += 6.0
    assert not case.writer.check_due()
    case.client.send(some_events(1))
    assert case.writer.confirmed
    assert case.writer.check_due()
    await case.writer.confirm()
    assert not case.writer.check_due()


async def test_a_slow_store_keeps_no_session_from_its_beginning() -> None:
    class Hanging(MemoryStore):
        async def write(self, changes: Sequence[Change]) -> list[Answer]:
            await asyncio.Event().wait()
            raise AssertionError

    case = Case(SnapshotPolicy(), Hanging())
    client = BENCH.open()
    writer = SnapshotWriter(case.access, "n", 1, client.session, case.policy)
    snapshot = asyncio.get_running_loop().create_future()
    client.session.snapshot(snapshot.set_result)
    BENCH.run()
    async with asyncio.timeout(60):
        assert not await writer.begin(await snapshot)
    assert not writer.recorded
    assert writer.confirmed  # nobody else can have it

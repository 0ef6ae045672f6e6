"""Every kind of store keeps the same promises."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import pytest
import redis
from hypothesis import example, given, settings, strategies as st

from saccade.server.sessions.stores.memory import MemoryStore
from saccade.server.sessions.stores.redis import PREFIX, RedisStore
from saccade.server.sessions.stores.sqlite import SqliteStore
from saccade.server.sessions.stores.store import (
    Answer,
    Change,
    Check,
    Delete,
    Outcome,
    Record,
    Store,
    StoreUnavailable,
    Touch,
    next_epoch,
)
from tests.redis_server import RedisCluster, RedisServer

T = TypeVar("T")

DATA = bytes(range(256))
DONE, FENCED, MISSING = Outcome.DONE, Outcome.FENCED, Outcome.MISSING
NOW_S = 1.9e9
"""A time within the tests' records' lives, for tests that pass no time."""


class Case(NamedTuple):
    """A store with a loop to run it on, and a way around it.

    Attributes:
        store: The store.
        run: Runs one of its calls.
        put: Puts a record, or none, in the place of a key's: what the store loses.
    """

    store: Store
    run: Callable[[Any], Any]
    put: Callable[[str, Record | None], None]

    def write(self, *changes: Change) -> list[Answer]:
        return list(self.run(self.store.write(changes)))

    def claim(self, key: str, now_s: float = NOW_S) -> Record | None:
        found: Record | None = self.run(self.store.claim(key, now_s))
        return found


def in_memory(folder: Path) -> tuple[Store, Any, Any]:
    store = MemoryStore()

    def put(key: str, record: Record | None) -> None:
        store._records.pop(key, None)
        if record is not None:
            store._records[key] = record

    return store, put, lambda: None


def in_sqlite(folder: Path) -> tuple[Store, Any, Any]:
    path = folder / "sessions.sqlite"
    store = SqliteStore(path)

    def put(key: str, record: Record | None) -> None:
        with sqlite3.connect(path, timeout=60) as database:
            database.execute("DELETE FROM sessions WHERE key=?", (key,))
            if record is not None:
                row = (record.key, record.epoch, record.expires_s, record.data)
                database.execute("INSERT INTO sessions VALUES (?,?,?,?)", row)

    return store, put, lambda: None


def in_redis(folder: Path) -> tuple[Store, Any, Any]:
    server = RedisServer(folder)
    client = redis.Redis.from_url(server.url)

    def put(key: str, record: Record | None) -> None:
        client.delete(PREFIX + key)
        if record is not None:
            fields: dict[Any, Any]
            fields = {"epoch": record.epoch, "expires_s": repr(record.expires_s)}
            fields |= {"data": record.data} if record.data else {}
            client.hset(PREFIX + key, mapping=fields)

    def stop() -> None:
        client.close()
        server.kill()

    return RedisStore(server.url), put, stop


@pytest.fixture(params=[in_memory, in_sqlite, in_redis], scope="module")
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    store, put, stop = request.param(tmp_path_factory.mktemp("store"))
    with asyncio.Runner() as runner:
        yield Case(store, runner.run, put)
        runner.run(store.close())
    stop()


def record(seconds: float = 60.0, epoch: int = 1, data: bytes = DATA) -> Record:
    """Return a record of a key that no other test has."""
    return Record(uuid4().hex, epoch, NOW_S + seconds, data)


def touch(owned: Record, expires_s: float) -> Touch:
    return Touch(owned.key, owned.epoch, owned.expires_s, expires_s)


def check(owned: Record) -> Check:
    return Check(owned.key, owned.epoch, owned.expires_s)


def delete(owned: Record) -> Delete:
    return Delete(owned.key, owned.epoch, NOW_S + 60)


def test_a_record_is_claimed_as_it_was_saved(case: Case) -> None:
    first = record()
    kept = replace(first, data=DATA[::-1])
    assert case.write(first, kept) == [DONE, DONE]
    assert case.claim(first.key) == replace(kept, epoch=int(1000 * NOW_S))


def test_a_claim_is_later_than_any_that_the_store_has_lost(case: Case) -> None:
    kept = record()
    case.write(kept)
    first = case.claim(kept.key, NOW_S)
    assert first is not None
    again = case.claim(kept.key, NOW_S)
    assert again is not None
    assert again.epoch == first.epoch + 1
    case.put(kept.key, kept)  # both claims are lost
    later = case.claim(kept.key, NOW_S + 1)
    assert later is not None
    assert later.epoch > again.epoch


def test_who_was_claimed_from_can_do_nothing_any_more(case: Case) -> None:
    old = record()
    case.write(old)
    new = case.claim(old.key)
    assert new is not None
    changes = old, touch(old, 0.0), check(old), delete(old)
    assert case.write(*changes) == [FENCED] * 4
    assert case.write(check(new), replace(new, data=b"newer")) == [DONE, DONE]
    again = case.claim(old.key)
    assert again is not None
    assert (again.epoch, again.data) == (new.epoch + 1, b"newer")


def test_what_is_deleted_is_not_found_and_no_owner_makes_it_again(case: Case) -> None:
    kept = record()
    case.write(kept)
    new = case.claim(kept.key)
    assert new is not None
    assert case.write(delete(new)) == [DONE]
    assert case.claim(kept.key) is None
    late = replace(new, epoch=new.epoch + 1)
    changes = kept, new, late, touch(new, NOW_S + 90), check(late)
    assert case.write(*changes)[:3] == [FENCED] * 3
    assert all(answer is not DONE for answer in case.write(*changes))
    assert case.claim(kept.key) is None


def test_a_missing_record_is_not_found_and_is_made_again_by_its_owner(
    case: Case,
) -> None:
    kept = record()
    assert case.claim(kept.key) is None
    assert case.write(touch(kept, NOW_S + 90), check(kept)) == [MISSING, MISSING]
    assert case.claim(kept.key) is None
    assert case.write(kept, check(kept)) == [DONE, DONE]
    assert case.claim(kept.key) is not None


def test_a_deletion_stands_where_the_store_has_lost_the_record(case: Case) -> None:
    kept = record()
    assert case.write(delete(kept), kept) == [DONE, FENCED]


def test_a_failover_that_lost_a_claim_leaves_the_rightful_owner_in_place(
    case: Case,
) -> None:
    old = record()
    case.write(old)
    new = case.claim(old.key)
    assert new is not None
    case.put(old.key, old)
    assert case.write(check(new)) == [MISSING]
    assert case.write(new, old, check(old), check(new)) == [DONE, FENCED, FENCED, DONE]


def test_a_failover_that_lost_a_save_is_noticed_by_the_next_check(case: Case) -> None:
    stale = record()
    newest = replace(stale, expires_s=stale.expires_s + 1, data=b"newest")
    case.write(stale, newest)
    case.put(stale.key, stale)
    assert case.write(check(newest), touch(newest, NOW_S + 90)) == [MISSING, MISSING]
    assert case.write(newest, check(newest)) == [DONE, DONE]


def test_a_record_expires_unless_its_time_is_renewed(case: Case) -> None:
    now_s = time.time()
    old, renewed = (replace(record(), expires_s=now_s + 1.0) for _ in range(2))
    case.write(old, renewed, touch(renewed, now_s + 600))
    case.run(asyncio.sleep(1.2))
    assert case.claim(old.key, time.time()) is None
    case.run(case.store.sweep(time.time()))
    assert case.write(check(old)) == [MISSING]
    assert case.claim(renewed.key, time.time()) is not None


def test_one_of_many_claims_at_once_is_the_last(case: Case) -> None:
    kept = record()
    case.write(kept)

    async def race() -> list[Record | None]:
        claims = [case.store.claim(kept.key, NOW_S) for _ in range(20)]
        return await asyncio.gather(*claims)

    found = [claimed for claimed in case.run(race()) if claimed]
    assert len({claimed.epoch for claimed in found}) == 20
    assert case.write(*found).count(DONE) == 1


def test_many_changes_are_answered_in_their_order(case: Case) -> None:
    kept = [record(data=bytes([n])) for n in range(100)]
    assert case.write(*kept) == [DONE] * 100
    mixed = [each if n % 3 else replace(each, epoch=0) for n, each in enumerate(kept)]
    assert case.write(*mixed) == [DONE if n % 3 else FENCED for n in range(100)]
    for each in kept:
        claimed = case.claim(each.key)
        assert claimed is not None
        assert claimed.data == each.data


OWNERS = st.integers(0, 3)
STEP = st.one_of(
    st.tuples(st.sampled_from(["save", "touch", "check", "delete"]), OWNERS),
    st.tuples(st.sampled_from(["claim"]), OWNERS),
    st.tuples(st.sampled_from(["lose", "fail over"]), st.integers(0, 5)),
)


class Expected:
    """What a store is to answer, and the versions of the record that it has had."""

    def __init__(self) -> None:
        self.versions: list[Record | None] = [None]

    @property
    def stored(self) -> Record | None:
        return self.versions[-1]

    def answer(self, change: Change) -> Outcome:
        stored = self.stored
        if stored is not None and stored.epoch > change.epoch:
            return FENCED
        if isinstance(change, Delete):
            self.versions.append(Record(*change, data=b""))
            return DONE
        if stored is not None and not stored.data:
            return FENCED
        if isinstance(change, Record):
            self.versions.append(change)
            return DONE
        owned = (change.epoch, change.was_s)
        if stored is None or (stored.epoch, stored.expires_s) != owned:
            return MISSING
        if isinstance(change, Touch):
            self.versions.append(replace(stored, expires_s=change.expires_s))
        return DONE


def changed(kind: str, owned: Record, step: int) -> Change:
    """Return a change by an owner, at a time that no other has."""
    expires_s = NOW_S + 100 + step
    match kind:
        case "save":
            return replace(owned, expires_s=expires_s, data=f"{step}".encode())
        case "touch":
            return Touch(owned.key, owned.epoch, owned.expires_s, expires_s)
        case "check":
            return check(owned)
        case _:
            return Delete(owned.key, owned.epoch, expires_s)


@settings(max_examples=60)
@given(st.lists(STEP, min_size=1, max_size=20))
@example([("save", 0), ("claim", 1), ("save", 0), ("fail over", 1), ("save", 1)])
@example([("save", 0), ("delete", 0), ("lose", 0), ("save", 0), ("claim", 1)])
def test_however_claims_saves_and_losses_mix_the_newest_owner_is_right(
    case: Case, steps: list[tuple[str, int]]
) -> None:
    expected, first = Expected(), record()
    owners = [replace(first, epoch=n) for n in range(4)]
    for number, (kind, who) in enumerate(steps):
        if kind in {"lose", "fail over"}:
            versions = expected.versions
            lost = None if kind == "lose" else versions[-1 - who % len(versions)]
            case.put(first.key, lost)
            versions.append(lost)
        elif kind == "claim":
            now_s = NOW_S + number
            claimed = case.claim(first.key, now_s)
            stored = expected.stored
            if stored is None or not stored.data:
                assert claimed is None
            else:
                epoch = next_epoch(stored.epoch, now_s)
                assert claimed == replace(stored, epoch=epoch)
                owners[who] = claimed
                expected.versions.append(claimed)
        else:
            change = changed(kind, owners[who], number)
            answer = expected.answer(change)
            assert case.write(change) == [answer]
            if answer is DONE and isinstance(change, Record):
                owners[who] = change
            elif answer is DONE and isinstance(change, Touch):
                owners[who] = replace(owners[who], expires_s=change.expires_s)


async def test_a_redis_that_was_killed_has_lost_nothing(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    store = RedisStore(server.url)
    kept = Record("k", 1, time.time() + 60, DATA)
    await store.write([kept])
    server.kill()
    with pytest.raises(StoreUnavailable, match="Redis"):
        await store.claim("k", time.time())
    server.start()
    claimed = await store.claim("k", time.time())
    assert claimed is not None
    assert claimed.data == DATA
    await store.close()
    server.kill()


def test_a_redis_that_is_not_there_is_said_so_without_its_password() -> None:
    for scheme in ("redis", "valkey", "redis+cluster"):
        with pytest.raises(StoreUnavailable, match="Redis") as caught:
            RedisStore(f"{scheme}://:secret@127.0.0.1:1/0")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["nonsense", "http://host", "redis+cluster://a:1,b"])
def test_what_is_no_address_of_a_redis_is_said_so(url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"Redis: .*(address|HOST:PORT)"):
        RedisStore(url)


def test_an_address_of_valkey_is_one_of_redis(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    store = RedisStore(server.url.replace("redis://", "valkey://"))
    with asyncio.Runner() as runner:
        assert runner.run(store.write([record()])) == [DONE]
        runner.run(store.close())
    server.kill()


@pytest.mark.slow
def test_a_cluster_keeps_records_on_all_its_nodes(tmp_path: Path) -> None:
    with RedisCluster(tmp_path) as cluster, asyncio.Runner() as runner:
        store = RedisStore(cluster.url)
        kept = [record(data=bytes([n])) for n in range(50)]
        now_s = time.time()
        kept = [replace(each, expires_s=now_s + 600) for each in kept]
        assert runner.run(store.write(kept)) == [DONE] * 50
        assert all(count > 0 for count in cluster.counts())
        claimed = runner.run(store.claim(kept[7].key, now_s))
        assert claimed is not None
        assert claimed.data == kept[7].data
        answers = runner.run(store.write([check(each) for each in kept]))
        assert answers == [DONE] * 7 + [FENCED] + [DONE] * 42
        runner.run(store.close())

"""Every kind of store keeps the same promises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from saccade.server.sessions.stores.memory import MemoryStore
from saccade.server.sessions.stores.redis import RedisStore
from saccade.server.sessions.stores.sqlite import SqliteStore
from saccade.server.sessions.stores.store import Fenced, Record, Store, StoreUnavailable
from tests.redis_server import RedisServer

DATA = bytes(range(256))


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    stop = None
    match request.param:
        case "memory":
            opened: Store = MemoryStore()
        case "sqlite":
            opened = SqliteStore(tmp_path / "sessions.sqlite")
        case _:
            redis = RedisServer(tmp_path)
            opened, stop = RedisStore(redis.url), redis.kill
    yield opened
    await opened.close()
    if stop:
        stop()


def record(key: str = "k", seconds: float = 60.0) -> Record:
    return Record(key, 1, time.time() + seconds, DATA)


async def test_a_record_is_claimed_as_it_was_saved(store: Store) -> None:
    kept = record()
    await store.create(kept)
    await store.save(replace(kept, data=DATA[::-1]))
    claimed = await store.claim("k", time.time())
    assert claimed == replace(kept, epoch=2, data=DATA[::-1])


async def test_who_was_claimed_from_can_do_nothing_any_more(store: Store) -> None:
    old = record()
    await store.create(old)
    new = await store.claim("k", time.time())
    assert new is not None
    with pytest.raises(Fenced):
        await store.save(old)
    await store.touch("k", old.epoch, 0.0)
    await store.delete("k", old.epoch)
    await store.save(replace(new, data=b"newer"))
    again = await store.claim("k", time.time())
    assert again is not None
    assert (again.epoch, again.data) == (3, b"newer")


async def test_what_is_deleted_or_never_was_is_not_found(store: Store) -> None:
    await store.create(record())
    await store.delete("k", 1)
    assert await store.claim("k", time.time()) is None
    assert await store.claim("other", time.time()) is None
    with pytest.raises(Fenced):
        await store.save(record())
    await store.touch("other", 1, time.time() + 60)
    assert await store.claim("other", time.time()) is None


async def test_a_record_expires_unless_its_time_is_renewed(store: Store) -> None:
    for key in ("old", "renewed"):
        await store.create(record(key, seconds=1.0))
    await store.touch("renewed", 1, time.time() + 60)
    await asyncio.sleep(1.2)
    assert await store.claim("old", time.time()) is None
    await store.sweep(time.time())
    assert await store.claim("renewed", time.time()) is not None


async def test_one_of_many_claims_at_once_is_the_last(store: Store) -> None:
    await store.create(record())
    claims = [store.claim("k", time.time()) for _ in range(20)]
    found = [claimed for claimed in await asyncio.gather(*claims) if claimed]
    assert sorted(claimed.epoch for claimed in found) == list(range(2, 22))
    saved = 0
    for claimed in found:
        try:
            await store.save(claimed)
            saved += 1
        except Fenced:
            pass
    assert saved == 1


async def test_a_redis_that_was_killed_has_lost_nothing(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    store = RedisStore(redis.url)
    await store.create(record())
    redis.kill()
    with pytest.raises(StoreUnavailable, match="Redis"):
        await store.claim("k", time.time())
    redis.start()
    claimed = await store.claim("k", time.time())
    assert claimed is not None
    assert claimed.data == DATA
    await store.close()
    redis.kill()


def test_a_redis_that_is_not_there_is_said_so_without_its_password() -> None:
    with pytest.raises(StoreUnavailable, match="Redis") as caught:
        RedisStore("redis://:secret@127.0.0.1:1/0")
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="Redis"):
        RedisStore("nonsense")

"""What the model of the store's load counts is what a real Redis counts."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from benchmarks.redis_operations import count
from benchmarks.scale.operations import (
    BEAT_COMMANDS,
    BEAT_SCRIPTS,
    CHECK_COMMANDS,
    SAVE_COMMANDS,
    cycle,
    store_load,
)
from saccade.server.fleet.redis import RedisDirectory
from saccade.server.fleet.report import Report
from saccade.server.sessions.snapshot_writer import SnapshotPolicy
from saccade.server.sessions.stores.redis import RedisStore
from saccade.server.sessions.stores.store import Check, Record
from tests.redis_server import RedisServer


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


async def test_saves_checks_and_heartbeats_cost_what_the_model_says(
    redis: RedisServer,
) -> None:
    store, fleet = RedisStore(redis.url), RedisDirectory(redis.url)
    expires_s = time.time() + 300
    record, report = Record("a", 1, expires_s, b"x"), Report("r", 0, "http://r")
    await store.write([record])
    await fleet.announce(report, 4.0)
    with Redis.from_url(redis.url) as client:

        async def cost(work: Awaitable[object]) -> tuple[int, int]:
            before = count(client)
            await work
            after = count(client)
            asked = 2  # INFO, twice a count
            commands = after.commands - before.commands - asked
            return after.scripts - before.scripts, commands

        count(client)
        assert await cost(store.write([record])) == (1, SAVE_COMMANDS)
        check = Check("a", 1, expires_s)
        assert await cost(store.write([check])) == (1, CHECK_COMMANDS)
        announced = await cost(fleet.announce(report, 4.0))
        read = await cost(fleet.reports())
        assert announced[0] + read[0] == BEAT_SCRIPTS
        assert announced[1] + read[1] == BEAT_COMMANDS
    await store.close()
    await fleet.close()


def test_a_session_is_checked_between_two_saves_as_its_lease_asks() -> None:
    policy = SnapshotPolicy(every_s=10.0, lease_s=5.0)
    found = cycle(1000.0, policy)
    assert found.seconds == pytest.approx(8.75, abs=0.05)
    assert found.checks == pytest.approx(3, abs=0.05)
    assert cycle(1000.0, policy._replace(lease_s=0)).checks == 0
    assert cycle(1000.0, policy._replace(every_s=1.0)).checks == 0


def test_a_fast_session_is_saved_by_its_events_and_not_by_the_clock() -> None:
    policy = SnapshotPolicy(every_events=10_000)
    assert cycle(10_000.0, policy).seconds == pytest.approx(1, abs=0.05)
    policy = SnapshotPolicy(every_bytes=80_000)
    assert cycle(10_000.0, policy).seconds == pytest.approx(1, abs=0.05)


def test_what_sessions_ask_of_the_store_adds_up() -> None:
    one, many = store_load(1, 500.0), store_load(200, 500.0)
    assert many.saves == pytest.approx(200 * one.saves)
    assert many.scripts == many.saves + many.checks + BEAT_SCRIPTS
    assert many.commands > many.scripts

"""Kill the server at any moment: the final scores are as if nothing had happened."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from saccade.clients.commands.server_process import ServerProcess
from tests.redis_server import RedisServer
from tests.system.proxy import bad_network
from tests.system.survivors import (
    assert_same,
    mortal,
    outlive,
    recordings,
    streamed,
)

SESSIONS = 4


async def uninterrupted(url, parts):
    return list(await asyncio.gather(*(streamed(url, part) for part in parts)))


async def struck(process: ServerProcess, number: signal.Signals) -> None:
    process._process.send_signal(number)
    await asyncio.to_thread(process._process.wait, 60)
    process.restart()
    await asyncio.to_thread(process.wait_until_ready, lambda text: None)


async def survives(
    folder: Path,
    number: signal.Signals,
    moments: int,
    events: int,
    seed: int,
    options: Sequence[str] = (),
) -> None:
    dice, parts = random.Random(seed), recordings(SESSIONS, events)
    with mortal(folder, *options) as process:
        expected = await uninterrupted(process.url, parts)

        async def strike() -> None:
            for _ in range(moments):
                await asyncio.sleep(dice.uniform(0.02, 0.5))
                await struck(process, number)

        found = await outlive(process.url, parts, strike)
        assert "Traceback" not in process.log()
    assert_same(found, expected)


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)],
    ids=lambda n: n.name,
)
async def test_sessions_end_as_if_their_server_had_lived_on(tmp_path, number):
    await survives(tmp_path, number, moments=1, events=50_000, seed=1)


@pytest.mark.slow
async def test_sessions_in_redis_outlive_their_server_too(tmp_path):
    redis = RedisServer(tmp_path)
    try:
        where = ("--store", "redis", "--store-url", redis.url)
        await survives(tmp_path, signal.SIGKILL, 2, 50_000, 4, where)
    finally:
        redis.kill()


@pytest.mark.slow
async def test_twenty_kills_at_random_moments_change_no_score(tmp_path):
    await survives(tmp_path, signal.SIGKILL, moments=20, events=600_000, seed=2)


@pytest.mark.slow
async def test_sessions_that_outnumber_slots_survive_a_kill_too(tmp_path):
    parts = recordings(6, 20_000)
    with mortal(tmp_path, "--slots", "2") as process:
        expected = await uninterrupted(process.url, parts)

        async def strike() -> None:
            await asyncio.sleep(0.3)
            await struck(process, signal.SIGKILL)

        found = await outlive(process.url, parts, strike)
        assert "Traceback" not in process.log()
    assert_same(found, expected)
    with mortal(tmp_path / "roomy") as process:
        assert_same(await uninterrupted(process.url, parts), expected)


async def crosses_a_bad_network(url: str, cuts: int, events: int, seed: int) -> None:
    dice, parts = random.Random(seed), recordings(SESSIONS, events)
    expected = await uninterrupted(url, parts)
    async with bad_network(url, seed) as network:

        async def strike() -> None:
            for _ in range(cuts):
                await asyncio.sleep(dice.uniform(0.05, 0.4))
                await network.stall(dice.uniform(0, 0.2))
                network.cut()

        found = await outlive(network.url, parts, strike)
        assert network.connections > SESSIONS
    assert_same(found, expected)


async def test_a_network_that_splits_stalls_and_cuts_changes_no_score(server):
    await crosses_a_bad_network(server.url, cuts=3, events=100_000, seed=3)


@pytest.mark.slow
async def test_twenty_cuts_at_random_moments_change_no_score(server):
    await crosses_a_bad_network(server.url, cuts=20, events=800_000, seed=4)

"""Two workers with what else an operator turns on: TLS, Redis, hot reload."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest

from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.connection import connect
from saccade.model.events.sensor import Sensor
from tests.clients.untrained import save_untrained
from tests.redis_server import RedisServer
from tests.system.survivors import assert_same, recordings, streamed
from tests.system.test_workers import ENGINE, WORKER, processes, survives
from tests.toy import some_events
from tests.transport.test_tls import Papers

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
TWO = ("--workers", "2")
NMNIST = ("--model", str(CHECKPOINTS / "nmnist"), "--buckets", "1x1,4x4")
SIDE = 4


@pytest.mark.slow
async def test_sessions_in_redis_outlive_a_worker_and_the_engine(
    tmp_path: Path,
) -> None:
    redis = RedisServer(tmp_path)
    options = ("--store", "redis", "--store-url", redis.url, "--snapshot-s", "0.05")
    try:
        with ServerProcess([*NMNIST, *TWO, *options]) as server:
            server.wait_until_ready(lambda _: None)
            await survives(server, [WORKER, ENGINE, WORKER], events=50_000)
    finally:
        redis.kill()


@pytest.mark.slow
async def test_workers_speak_tls_with_the_certificate_of_a_file_of_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    papers = Papers(tmp_path)
    monkeypatch.setenv("SACCADE_CA", str(papers.ca))
    file = tmp_path / "saccade.toml"
    file.write_text("workers = 2\ntls_cert = 'cert'\ntls_key = 'key'\n")
    (part,) = recordings(1, 5_000)
    with ServerProcess([*NMNIST, *TWO]) as plain:
        plain.wait_until_ready(lambda _: None)
        expected = await streamed(plain.url, part)
    with ServerProcess([*NMNIST, "--config", str(file)]) as server:
        server.url = server.url.replace("http:", "https:")
        await asyncio.to_thread(server.wait_until_ready, lambda _: None)
        assert len(processes(server, "saccade-")) == 3
        found = [await streamed(server.url, part) for _ in range(3)]
    assert_same(found, 3 * [expected])


async def scores(url: str) -> list[float]:
    async with connect(url, model="net", sensor=Sensor(SIDE, SIDE)) as stream:
        await stream.send(some_events(64))
        return list((await stream.close()).logits or [])


async def served(server: ServerProcess) -> str:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{server.url}/v1/models")
    return str(answer.json()["models"][0]["model_hash"])


@pytest.mark.slow
async def test_every_worker_takes_over_a_checkpoint_that_is_replaced(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "net"
    save_untrained(folder, "net", ("a", "b"), SIDE)
    reload = ("--reload-s", "0.2", "--buckets", "1x1")
    with ServerProcess(["--model", str(folder), *TWO, *reload]) as server:
        await asyncio.to_thread(server.wait_until_ready, lambda _: None)
        first, before = await served(server), await scores(server.url)
        save_untrained(folder, "net", ("a", "b"), SIDE, seed=1)
        seen: set[str] = set()
        while seen != {await served(server)} or first in seen:
            seen = {await served(server) for _ in range(8)}
        after = [await scores(server.url) for _ in range(8)]
    assert not np.allclose(after[0], before)
    assert np.allclose(after, after[0], rtol=1e-5)

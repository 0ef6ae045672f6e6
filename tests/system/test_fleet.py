"""Two real servers on one Redis: one is killed, or stopped; no session notices."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.connection import Stream, open_stream
from saccade.server.transport.placement import EXPIRES_S
from tests.redis_server import RedisServer
from tests.system.offline import CHECKPOINTS
from tests.system.survivors import BRISK, FRAME, recordings

pytestmark = pytest.mark.slow
SESSIONS = 8
WEB = Path(__file__).parents[2] / "clients" / "web"
EVENTS = 20_000


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def pair(redis: RedisServer) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    options = [
        *("--store", "redis", "--store-url", redis.url, "--rebalance", "0"),
        *("--model", str(CHECKPOINTS / "nmnist"), "--buckets", "1x1,4x4"),
        *("--snapshot-s", "0.05", "--drain-s", "0.3"),
    ]
    with ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess(options)) for _ in range(2)]
        for server in servers:
            server.wait_until_ready(lambda text: None)
        yield servers[0], servers[1]


@asynccontextmanager
async def opened(url: str, count: int) -> AsyncIterator[list[Stream]]:
    """Open sessions, one after the other, so that placement spreads them."""
    streams: list[Stream] = []
    for _ in range(count):
        streams.append(await open_stream(url, model="nmnist", reconnecting=BRISK))
    try:
        yield streams
    finally:
        await asyncio.gather(*[one.abort() for one in streams])


async def send(streams: list[Stream], parts: list[Any], begin: int, end: int) -> None:
    async def one(stream: Stream, part: Any) -> None:
        for start in range(begin, end, FRAME):
            await stream.send(part[start : min(start + FRAME, end)])

    await asyncio.gather(*map(one, streams, parts))


async def finals(streams: list[Stream]) -> list[list[float]]:
    return [each.logits for each in await asyncio.gather(*[s.close() for s in streams])]


async def uninterrupted(url: str, parts: list[Any]) -> list[list[float]]:
    async with opened(url, len(parts)) as streams:
        await send(streams, parts, 0, EVENTS)
        return await finals(streams)


async def test_sessions_of_a_killed_server_go_on_at_the_other(pair):
    parts = recordings(SESSIONS, EVENTS)
    expected = await uninterrupted(pair[0].url, parts)
    for victim in pair:
        await both_serve(pair)
        async with opened(pair[0].url, SESSIONS) as streams:
            await send(streams, parts, 0, EVENTS // 2)
            assert len({one.opened.replica for one in streams}) == len(pair)
            victim._process.kill()
            await asyncio.to_thread(victim._process.wait, 60)
            await send(streams, parts, EVENTS // 2, EVENTS)
            assert await finals(streams) == expected
            moved = [one.stats.reconnects > 0 for one in streams]
            assert 0 < sum(moved) < SESSIONS
        victim.restart()
        await asyncio.to_thread(victim.wait_until_ready, lambda text: None)


async def both_serve(pair: tuple[ServerProcess, ...]) -> None:
    """Wait until placements name both servers, and count no more."""
    found: set[str] = set()
    async with asyncio.timeout(60):
        while len(found) < len(pair):
            found |= await asyncio.to_thread(placements, pair[0].url)
            await asyncio.sleep(0.2)
    await asyncio.sleep(EXPIRES_S)


def placements(url: str) -> set[str]:
    request = urllib.request.Request(
        f"{url}/v1/sessions",
        json.dumps({"model": "nmnist"}).encode(),
        {"Content-Type": "application/json"},
    )
    found = set()
    for _ in range(4):
        with urllib.request.urlopen(request) as response:
            found.add(json.loads(response.read())["url"])
    return found


async def test_sessions_of_a_stopped_server_move_while_it_is_stopped(pair):
    parts = recordings(4, EVENTS)
    expected = await uninterrupted(pair[0].url, parts)
    await both_serve(pair)
    async with opened(pair[0].url, 4) as streams:
        await send(streams, parts, 0, EVENTS // 2)
        stopped = pair[1]._process.pid
        os.kill(stopped, signal.SIGSTOP)
        try:
            await send(streams, parts, EVENTS // 2, EVENTS)
            assert await finals(streams) == expected
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert 0 < sum(one.stats.reconnects > 0 for one in streams) < len(streams)


@pytest.mark.skipif(
    shutil.which("node") is None or not (WEB / "node_modules").is_dir(),
    reason="needs Node, and `npm ci` in clients/web",
)
async def test_a_session_of_javascript_leaves_a_stopped_server_too(pair):
    await both_serve(pair)
    program = Path(__file__).with_name("fleet.mjs")
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    node = await asyncio.create_subprocess_exec(
        "node", str(program), pair[0].url, cwd=WEB, **pipes
    )
    assert node.stdin is not None
    assert node.stdout is not None
    replicas = json.loads(await node.stdout.readline())
    assert len({*replicas}) == len(pair)
    stopped = pair[1]._process.pid
    os.kill(stopped, signal.SIGSTOP)
    try:
        node.stdin.write(b"\n")
        finals = json.loads(await node.stdout.readline())
    finally:
        os.kill(stopped, signal.SIGCONT)
        await node.wait()
    assert all(one["logits"] == finals[0]["logits"] for one in finals)
    assert 0 < sum(one["reconnects"] > 0 for one in finals) < len(finals)

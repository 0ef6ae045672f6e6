"""Servers that are paused, and a Redis that is killed or wiped, as real processes."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis

from saccade.clients.commands.server_process import ServerProcess
from saccade.model.events.types import Events
from saccade.server.protocol.codec import decode_server
from saccade.server.protocol.messages import Ack, Result
from saccade.server.sessions.registry import key_of
from saccade.server.sessions.stores.redis import PREFIX
from tests.redis_server import RedisServer
from tests.system.survivors import (
    FRAME,
    assert_same,
    mortal,
    outlive,
    recordings,
    streamed,
)
from tests.toy import wait_until
from tests.wire import Client, client_of

pytestmark = pytest.mark.slow

LEASE_S = 1.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def options(redis: RedisServer) -> tuple[str, ...]:
    lease = ("--lease-s", f"{LEASE_S:g}")
    return ("--store", "redis", "--store-url", redis.url, *lease)


def in_frames(count: int) -> tuple[Events, list[Events]]:
    """Return a recording, whole and in so many frames."""
    (events,) = recordings(1, count * FRAME)
    starts = range(0, len(events), FRAME)
    return events, [events[start : start + FRAME] for start in starts]


def hear_all(client: Client, silence_s: float) -> None:
    """Hear what the client was sent, until nothing came for some time."""
    with suppress(TimeoutError):
        while True:
            data = client.socket.recv(timeout=silence_s)
            client.heard.append(decode_server(data))


def pause(process: ServerProcess) -> None:
    process._process.send_signal(signal.SIGSTOP)


def go_on(process: ServerProcess) -> None:
    process._process.send_signal(signal.SIGCONT)


def test_a_server_that_was_paused_past_its_lease_has_nothing_to_say(
    tmp_path: Path, redis: RedisServer
) -> None:
    events, frames = in_frames(40)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        mortal(tmp_path / "a", *options(redis)) as here,
        mortal(tmp_path / "b", *options(redis)) as there,
        client_of(here.url) as old,
        client_of(there.url) as new,
        Redis.from_url(redis.url) as store,
    ):
        old.open("nmnist")
        for frame in frames[:10]:
            old.send(frame)
        while not old.of(Ack) or old.acked.durable_seq < 10:
            old.hear()
        for frame in frames[10:20]:  # some of it is under way as the server stops
            old.send(frame)
        pause(here)
        for frame in frames[20:30]:  # and some waits in the socket
            old.send_at_once(frame)
        hear_all(old, silence_s=0.5)
        time.sleep(LEASE_S)
        again = new.open("nmnist", resume=old.token)
        new.seq = again.seq
        for frame in frames[again.seq :]:
            new.send(frame)
        while not new.of(Ack) or new.acked.durable_seq < len(frames):
            new.hear()
        hear_all(new, silence_s=1.0)
        pause(there)  # nobody else writes to the store
        key = PREFIX + key_of(old.token)
        before, heard = store.hgetall(key), len(old.heard)
        go_on(here)
        assert old.close_code() == 4410
        late = old.heard[heard:]
        assert [one for one in late if isinstance(one, Result | Ack)] == []
        assert [one.code for one in late] == ["taken_over"]
        assert store.hgetall(key) == before
        go_on(there)
        final = new.finish()
        expected = asyncio.run(streamed(there.url, events))
    assert_same([final], [expected])


def test_a_server_that_was_paused_goes_on_with_a_session_that_is_still_its_own(
    tmp_path: Path, redis: RedisServer
) -> None:
    events, frames = in_frames(20)
    with mortal(tmp_path, *options(redis)) as process, client_of(process.url) as client:
        client.open("nmnist")
        for frame in frames[:10]:
            client.send(frame)
        pause(process)
        time.sleep(LEASE_S)
        go_on(process)
        for frame in frames[10:]:
            client.send(frame)
        final = client.finish()
        expected = asyncio.run(streamed(process.url, events))
    assert_same([final], [expected])


@pytest.mark.parametrize("wiped", [False, True], ids=["killed", "wiped"])
async def test_no_session_ends_as_its_redis_is_killed_or_wiped(
    tmp_path: Path, redis: RedisServer, *, wiped: bool
) -> None:
    parts = recordings(4, 60_000)
    with mortal(tmp_path, *options(redis)) as process:
        expected = list(
            await asyncio.gather(*(streamed(process.url, part) for part in parts))
        )

        async def strike() -> None:
            await asyncio.sleep(0.5)
            redis.kill()
            if wiped:
                redis.forget()
            await asyncio.sleep(2 * LEASE_S)
            await asyncio.to_thread(redis.start)
            assert "taken_over" not in process.log()
            # All are in the store again, beside what the server asked it with.
            await asyncio.to_thread(wait_until, lambda: redis.keys > len(parts))
            process._process.kill()
            await asyncio.to_thread(process._process.wait, 60)
            process.restart()
            await asyncio.to_thread(process.wait_until_ready, lambda text: None)

        found = await outlive(process.url, parts, strike)
        log = process.log()
    assert_same(found, expected)
    assert "Traceback" not in log
    assert "unknown_session" not in log

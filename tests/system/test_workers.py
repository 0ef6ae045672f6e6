"""A server of several processes: whichever of them is killed, no score changes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from msgpack import unpackb
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from saccade.clients import http
from saccade.clients.commands.server_process import ServerProcess
from tests.system.survivors import (
    assert_same,
    mortal,
    outlive,
    recordings,
    streamed,
)
from tests.wire import client_of

SESSIONS = 4
ENGINE, WORKER = "saccade-engine", "saccade-worker-"


def processes(server: ServerProcess, name: str) -> list[int]:
    """Return the ids of a server's processes of a name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            command = folder.joinpath("cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        if int(parent) == server.pid and f"\0{name}".encode() in command:
            found.append(int(folder.name))
    return found


async def killed(server: ServerProcess, name: str, dice: random.Random) -> None:
    """Kill a process of that name; return when another serves in its place."""
    before = processes(server, name)
    victim = dice.choice(before)
    os.kill(victim, signal.SIGKILL)
    while len(now := processes(server, name)) < len(before) or victim in now:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await asyncio.to_thread(server.wait_until_ready, lambda text: None)


async def survives(server: ServerProcess, victims: list[str], events: int) -> None:
    dice, parts = random.Random(1), recordings(SESSIONS, events)
    expected = await asyncio.gather(*(streamed(server.url, p) for p in parts))

    async def strike() -> None:
        for name in victims:
            await asyncio.sleep(dice.uniform(0.02, 0.5))
            await killed(server, name, dice)

    found = await outlive(server.url, parts, strike)
    assert "Traceback" not in server.log()
    assert_same(found, [*expected])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with two workers, which the last test of the module kills."""
    with mortal(tmp_path_factory.mktemp("sessions"), "--workers", "2") as process:
        yield process


def test_metrics_are_those_of_all_workers(server):
    async def stream_all() -> None:
        parts = recordings(6, 2_000)
        await asyncio.gather(*(streamed(server.url, part) for part in parts))

    asyncio.run(stream_all())
    samples = {one.name: one.value for one in http.metrics(server.url)}
    assert samples["saccade_sessions_total"] == 6
    assert samples["saccade_events_received_total"] == 12_000
    assert 11_000 < samples["saccade_events_scored_total"] <= 12_000
    assert samples["saccade_batches_total"] > 0
    assert samples["saccade_processes"] == 4  # two workers, engine and supervisor
    assert samples["saccade_build_info"] == samples["saccade_model_ready"] == 1
    assert samples["saccade_slots"] == samples["saccade_sessions_limit"] / 4 == 256
    assert samples["saccade_device_recompiles_total"] == 0
    assert samples["saccade_process_restarts_total"] == 0


async def test_no_counter_falls_where_a_process_ends(server):
    def counters() -> dict[tuple[str, str], float]:
        return {
            (one.name, str(one.labels)): one.value
            for one in http.metrics(server.url)
            if one.name.endswith(("_total", "_bucket", "_count", "_sum"))
        }

    before = counters()
    for name in (WORKER, ENGINE):
        await killed(server, name, random.Random(0))
        now = counters()
        fallen = {
            each: now.get(each) for each in before if now.get(each, 0) < before[each]
        }
        assert not fallen
        before = now
    assert before["saccade_process_restarts_total", "{'process': 'worker'}"] == 1
    await streamed(server.url, recordings(1, 2_000)[0])
    received = "saccade_events_received_total"
    grown = [each for each in before if each[0] == received]
    after = counters()
    assert sum(after[each] - before[each] for each in grown) == 2_000


def test_a_session_is_watched_whichever_worker_serves_it(server):
    events = recordings(1, 4_000)[0]
    with client_of(server.url) as client, ExitStack() as stack:
        session = client.open("nmnist").session
        url = f"{server.url.replace('http', 'ws')}/v1/sessions/{session}/watch"
        watchers = [stack.enter_context(connect(url)) for _ in range(8)]
        for watcher in watchers:  # a worker has them all by a chance of 1 in 128
            assert unpackb(watcher.recv())["session"] == session
        client.send(events)
        closed = client.finish()
        for watcher in watchers:
            heard = [unpackb(message) for message in watcher]
            shown = [each for each in heard if each["type"] == "events"]
            assert sum(len(each["data"]) // 8 for each in shown) == 4_000
            newest = [each for each in heard if each["type"] == "result"][-1]
            assert newest["ticks"] == closed.ticks
            assert newest["logits"] == pytest.approx(closed.logits)
            assert heard[-1] == {"type": "ended", "reason": "closed"}
        unknown = url.replace(session, "nobody")
        with pytest.raises(InvalidStatus, match="404"), connect(unknown):
            pass


def test_the_overview_is_of_all_workers(server):
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(server.url)) for _ in range(6)]
        names = {client.open("nmnist").session for client in clients}
        seen = httpx.get(server.url + "/v1/overview").json()
        assert {each["session"] for each in seen["sessions"]} == names
        assert seen["totals"]["sessions"] == 6
        assert seen["workers"] == 2
        assert [each["platform"] for each in seen["devices"]] == ["cpu"]
        for client in clients:
            client.finish()


async def test_sessions_end_as_if_worker_and_engine_had_lived_on(server):
    await survives(server, [WORKER, ENGINE], events=50_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", [WORKER, ENGINE])
async def test_twenty_kills_of_one_process_change_no_score(server, name):
    await survives(server, 20 * [name], events=600_000)


def test_the_processes_end_with_the_one_that_started_them(server):
    children = processes(server, "saccade-")
    assert len(children) == 3
    os.kill(server.pid, signal.SIGKILL)
    server._process.wait()
    deadline_s = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)

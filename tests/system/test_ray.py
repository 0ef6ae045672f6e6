"""Replicas that Ray Serve runs: real Ray, real Redis, sessions that go on meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from saccade.clients.connection import Stream, open_stream
from saccade.clients.errors import ConnectionLost
from saccade.clients.reconnecting import Reconnecting, Waiting
from saccade.model.events.types import EVENT_DTYPE, Events
from tests.clients.untrained import save_untrained
from tests.system.ray_cluster import SERVING_S, RayCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LABELS = ("a", "b")
SIDE = 8
SESSIONS = 6
FRAME = 64
PAUSE_S = 0.05
PATIENT = Reconnecting(first_s=0.05, most_s=1.0, give_up_s=SERVING_S)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [tmp_path_factory.mktemp("net") / str(seed) for seed in range(2)]
    for seed, folder in enumerate(folders):
        save_untrained(folder, "net", LABELS, SIDE, seed)
    return folders


@pytest.fixture(scope="module")
def cluster(
    versions: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RayCluster]:
    options = [
        *("--model", str(versions[0]), "--buckets", "1x1,8x4", "--slots", "64"),
        *("--snapshot-s", "0.5", "--drain-s", "2", "--reload-s", "0.3"),
    ]
    running = RayCluster(tmp_path_factory.mktemp("ray"), options)
    try:
        running.wait_until_serving()
        yield running
    finally:
        running.close()


@dataclass
class Recorder:
    """A session that streams without end, and how its connections ended.

    Attributes:
        stream: The session.
        frames: How many frames it has sent.
        moves: Each lost connection's close code, and the cause of the `goaway` before.
    """

    number: int
    stream: Stream | None = None
    frames: int = 0
    moves: list[tuple[int | None, str | None]] = field(default_factory=list)

    async def open(self, url: str) -> None:
        patient = replace(PATIENT, on_wait=self._note)
        self.stream = await open_stream(url, model="net", reconnecting=patient)

    @property
    def name(self) -> str:
        assert self.stream is not None
        return self.stream.opened.session

    async def send(self, frames: int = 1) -> None:
        assert self.stream is not None
        for _ in range(frames):
            await self.stream.send(frame(self.number, self.frames))
            self.frames += 1

    async def close(self) -> list[float]:
        assert self.stream is not None
        return list((await self.stream.close()).logits or [])

    def _note(self, waiting: Waiting) -> None:
        assert self.stream is not None
        if waiting.attempt == 1:
            goaway, cause = self.stream.goaway, waiting.cause
            code = cause.close_code if isinstance(cause, ConnectionLost) else None
            self.moves.append((code, goaway.cause if goaway else None))


def frame(session: int, number: int) -> Events:
    """Return the events that a session sends as a frame of this number."""
    random = np.random.default_rng((session, number))
    events = np.empty(FRAME, EVENT_DTYPE)
    events["t"] = (np.arange(FRAME) + number * FRAME) * 10
    for name, limit in (("x", SIDE), ("y", SIDE), ("p", 2)):
        events[name] = random.integers(0, limit, FRAME)
    return events


@asynccontextmanager
async def streaming(url: str) -> AsyncIterator[list[Recorder]]:
    """Open sessions, one after the other."""
    sessions = [Recorder(number) for number in range(SESSIONS)]
    try:
        for one in sessions:
            await one.open(url)
        yield sessions
    finally:
        open_ones = [one.stream for one in sessions if one.stream is not None]
        await asyncio.gather(*[one.abort() for one in open_ones])


async def stream_until(sessions: list[Recorder], condition: Callable[[], bool]) -> None:
    """Stream on until something has happened."""
    waiting = asyncio.create_task(polled(condition))
    try:
        while not waiting.done():
            await asyncio.gather(*[one.send() for one in sessions])
            await asyncio.sleep(PAUSE_S)
    finally:
        waiting.cancel()
    await waiting


async def polled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SERVING_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 other processes
            await asyncio.sleep(PAUSE_S)


def alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


async def finals(sessions: list[Recorder]) -> list[list[float]]:
    return await asyncio.gather(*[one.close() for one in sessions])


async def uninterrupted(url: str, sent: list[Recorder]) -> list[list[float]]:
    """Return the final scores of the same events where nothing happens to them."""
    async with streaming(url) as sessions:
        for one, other in zip(sessions, sent, strict=True):
            await one.send(other.frames)
        found = await finals(sessions)
        assert [one.moves for one in sessions] == [[]] * SESSIONS
        return found


def evenly_spread(cluster: RayCluster) -> bool:
    """Return whether each of three replicas has some sessions, and none too many."""
    counts = Counter(cluster.places().values())
    return (
        len(counts) == 3
        and sum(counts.values()) == SESSIONS
        and max(counts.values()) <= SESSIONS // 2
    )


def all_at(sessions: list[Recorder], replica: str) -> dict[str, str]:
    return {one.name: replica for one in sessions}


def test_ray_listens_on_loopback_but_for_one_port_of_each_replica(cluster):
    loopback = {"0100007F", f"{0:016X}FFFF00000100007F", f"{0:024X}01000000"}
    found = cluster.listens_at()
    assert len(found) > 10
    beyond = [address for address in found if address not in loopback]
    # For calls between deployments; Serve 2.60 takes no address for it.
    assert beyond == [f"{0:032X}"] * len(cluster.running())


async def test_serves_address_places_sessions_and_takes_none(cluster):
    (replica,) = cluster.fleet().values()
    status, placed = await asyncio.to_thread(
        cluster.answer, "/v1/sessions", {"model": "net"}
    )
    assert (status, placed["url"], placed["replica"]) == (
        200,
        replica.url,
        replica.name,
    )
    assert cluster.answer("/readyz")[0] == 200
    status, problem = cluster.answer("/v1/classify", {})
    assert (status, problem["code"]) == (404, "no_such_route")
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{cluster.url.replace('http', 'ws')}/v1/stream")
    assert refused.value.response.status_code >= 400


async def test_sessions_go_on_through_three_replicas_and_back(cluster):
    """Each move has a `goaway` and 1012; replicas that stay lose no connection."""
    async with streaming(cluster.url) as sessions:
        cluster.reconfigure(num_replicas=3)

        def three_serve() -> bool:
            running = cluster.running()
            assert all(map(cluster.ready, running)), "RUNNING before it is ready"
            return len(running) == 3

        await stream_until(sessions, three_serve)
        await stream_until(sessions, lambda: evenly_spread(cluster))
        assert {move for one in sessions for move in one.moves} == {(1012, "rebalance")}
        places = cluster.places()
        before = [(one, places[one.name], len(one.moves)) for one in sessions]
        cluster.reconfigure(num_replicas=1)
        await stream_until(sessions, lambda: len(cluster.replicas()) == 1)
        (last,) = cluster.running()
        await stream_until(sessions, lambda: cluster.places() == all_at(sessions, last))
        for one, replica, moves in before:
            later = one.moves[moves:]
            assert {code for code, _ in later} <= {1012}
            assert (not later) if replica == last else (1012, "drain") in later
        found = await finals(sessions)
    assert found == await uninterrupted(cluster.url, sessions)


async def test_new_sessions_get_another_version_and_nobody_reconnects(
    cluster, versions
):
    async with streaming(cluster.url) as old:
        await asyncio.gather(*[one.send(4) for one in old])
        replicas, first = cluster.running(), old[0].stream.opened.model_hash
        cluster.reconfigure(user_config={"models": [str(versions[1])]})

        def served() -> bool:
            models = cluster.answer("/v1/models")[1]["models"]
            return models[0]["model_hash"] != first and bool(cluster.running())

        await stream_until(old, served)
        async with streaming(cluster.url) as new:
            assert {one.stream.opened.model_hash for one in new}.isdisjoint({first})
        assert cluster.running() == replicas
        assert [one.moves for one in old] == [[]] * SESSIONS
        assert {one.stream.opened.model_hash for one in old} == {first}


async def test_a_replica_that_does_not_answer_is_replaced_and_its_sessions_go_on(
    cluster,
):
    async with streaming(cluster.url) as sessions:
        await asyncio.gather(*[one.send(4) for one in sessions])
        (silent,) = cluster.running()
        process = cluster.server_of(silent)
        os.kill(process, signal.SIGSTOP)
        for one in sessions:
            await one.send(4)
        await polled(lambda: bool(cluster.running() - {silent}))
        assert not alive(process)
        (replica,) = cluster.running()
        await stream_until(
            sessions, lambda: cluster.places() == all_at(sessions, replica)
        )
        found = await finals(sessions)
    assert found == await uninterrupted(cluster.url, sessions)


async def test_a_stop_drains_every_replica_and_leaves_no_process(cluster):
    async with streaming(cluster.url) as sessions:
        await asyncio.gather(*[one.send(4) for one in sessions])
        (replica,) = cluster.running()
        processes = [cluster.server_of(replica), cluster.replicas()[replica]["pid"]]
        stopping = asyncio.create_task(asyncio.to_thread(cluster.stop))
        await polled(lambda: all(one.moves for one in sessions))
        assert {one.moves[0] for one in sessions} == {(1012, "drain")}
        assert await stopping == 0
    assert "has stopped" in cluster.log
    assert [one for one in processes if alive(one)] == []

"""A server of two devices: scores as of one, sessions on both, hot reload on both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from saccade.clients import http
from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.connection import connect
from saccade.model.events.sensor import Sensor
from saccade.server.protocol.messages import Closed
from tests.clients.untrained import save_untrained
from tests.toy import some_events, wait_until

SIDE, SESSIONS, EVENTS = 4, 4, 3_000
SENSOR = Sensor(SIDE, SIDE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models") / "net"
    save_untrained(found, "net", ("a", "b"), SIDE)
    return found


@pytest.fixture(scope="module", params=["0", "2"], ids=["one process", "two workers"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[ServerProcess]:
    with started(folder, "--device", "cpu:0,1", "--workers", request.param) as process:
        yield process


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[tuple[float, ...]]:
    """The scores of one device."""
    with started(folder, "--device", "cpu") as process:
        assert scored_on(process.url).keys() == {"cpu:0"}
        return asyncio.run(scores(process.url))


@contextmanager
def started(folder: Path, *options: str) -> Iterator[ServerProcess]:
    usual = ("--buckets", "1x1,4x4", "--reload-s", "0.2", "--slots", "4")
    with ServerProcess(["--model", str(folder), *usual, *options]) as process:
        process.wait_until_ready(lambda text: None)
        yield process


async def streamed(url: str, seed: int, together: asyncio.Barrier) -> Closed:
    """Stream a recording while the others' sessions are open too."""
    events = some_events(EVENTS, seed)
    async with connect(url, model="net", sensor=SENSOR) as stream:
        await stream.send(events[:100])
        await stream.flush()
        await together.wait()
        await stream.send(events[100:])
        return await stream.close()


async def scores(url: str) -> list[tuple[float, ...]]:
    together = asyncio.Barrier(SESSIONS)
    each = (streamed(url, seed, together) for seed in range(SESSIONS))
    return [tuple(closed.logits or ()) for closed in await asyncio.gather(*each)]


def scored_on(url: str) -> dict[str, float]:
    """Return how many events each device has scored."""
    return {
        one.labels["device"]: one.value
        for one in http.metrics(url)
        if one.name == "saccade_device_events_scored_total"
    }


def version(url: str) -> str:
    """Return the version that every process serves; waits until that is one."""
    while True:
        answers = [httpx.get(f"{url}/v1/models").json() for _ in range(8)]
        hashes = {str(answer["models"][0]["model_hash"]) for answer in answers}
        if len(hashes) == 1:
            return hashes.pop()


@pytest.mark.slow
def test_sessions_are_on_both_devices_and_score_as_on_one(
    server: ServerProcess, expected: list[tuple[float, ...]]
) -> None:
    before = scored_on(server.url)
    assert before.keys() == {"cpu:0", "cpu:1"}
    assert asyncio.run(scores(server.url)) == expected, "bit for bit"
    after = scored_on(server.url)
    assert all(after[name] > before[name] for name in before)
    overview = httpx.get(f"{server.url}/v1/overview").json()
    assert [one["name"] for one in overview["engine_devices"]] == ["cpu:0", "cpu:1"]


@pytest.mark.slow
def test_a_new_version_is_served_by_both_devices(
    server: ServerProcess, folder: Path
) -> None:
    old, before = version(server.url), asyncio.run(scores(server.url))
    save_untrained(folder, "net", ("a", "b"), SIDE, seed=1)
    wait_until(lambda: version(server.url) != old)
    counted = scored_on(server.url)
    after = asyncio.run(scores(server.url))
    assert all(new != was for new, was in zip(after, before, strict=True))
    assert all(scored_on(server.url)[name] > counted[name] for name in counted)
    save_untrained(folder, "net", ("a", "b"), SIDE)
    wait_until(lambda: version(server.url) == old)

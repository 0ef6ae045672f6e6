"""Two servers and one Redis: placement, rebalancing, and what holds across servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

import saccade
from saccade.server.protocol.messages import GoAway, Open
from saccade.server.transport.auth import digest_of, new_key
from tests.redis_server import RedisServer
from tests.toy import event_scores, some_events, wait_until

EVENTS = some_events(40)
SCORE = event_scores(EVENTS)[-1]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def fleet(serve: Any, redis: RedisServer) -> Any:
    """Start a server of the fleet."""

    def start(**settings: Any) -> Any:
        shared = {"store": "redis", "store_url": redis.url, "snapshot_s": 0.05}
        return serve(**{**shared, "rebalance": 0, **settings})

    return start


def know_each_other(*servers: Any) -> None:
    for one in servers:
        wait_until(lambda one=one: len(serving(one)) == len(servers))


def serving(server: Any) -> list[Any]:
    """The replicas that a server knows, and that may take a session."""
    return [one for one in server.service.fleet.replicas if one.serves("toy")]


def placed(server: Any, **request: Any) -> httpx.Response:
    return httpx.post(f"{server.base}/v1/sessions", json={"model": "toy"}, **request)


def test_a_server_alone_places_sessions_on_itself(serve: Any) -> None:
    server = serve()
    answer = placed(server).json()
    assert (answer["url"], answer["replica"]) == (server.base, None)
    url = f"{server.base}/v1/sessions"
    for body, status, code, field in (
        (b'{"model"', 400, "bad_request", None),
        (b"{}", 422, "invalid_field", "model"),
        (b"", 422, "invalid_field", None),
    ):
        headers = {"Content-Type": "application/json"}
        refused = httpx.post(url, content=body, headers=headers)
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert refused.json().get("field") == field
    unknown = httpx.post(url, json={"model": "digits"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_model")


def test_placements_are_shared_between_two_servers(fleet: Any) -> None:
    here, there = fleet(), fleet()
    know_each_other(here, there)
    urls = [placed(here).json()["url"] for _ in range(4)]
    assert sorted(urls) == sorted(2 * [here.base, there.base])
    answer = placed(here).json()
    assert answer["others"] == [
        one.base for one in (here, there) if one.base != answer["url"]
    ]


def test_a_full_fleet_says_when_to_ask_again(fleet: Any) -> None:
    server = fleet(sessions=1)
    with server.client() as client:
        client.open()
        wait_until(lambda: placed(server).status_code == 503)
        refused = placed(server)
    assert refused.json()["code"] == "slots_exhausted"
    assert int(refused.headers["Retry-After"]) >= 1


async def _stream(server: Any, opened: list[Any]) -> Any:
    async with saccade.connect(server.base, model="toy") as stream:
        opened.append(stream.opened)
        await stream.send(EVENTS)
        return (await stream.flush()).logits


def test_a_client_of_one_server_is_served_by_the_other(fleet: Any) -> None:
    here, there = fleet(), fleet()
    know_each_other(here, there)
    opened: list[Any] = []
    for _ in range(4):
        logits = asyncio.run(_stream(here, opened))
        assert logits[0] == pytest.approx(SCORE)
    names = {one.service.settings.replica for one in (here, there)}
    assert {one.replica for one in opened} == names


def test_a_session_moves_to_a_server_that_comes(fleet: Any) -> None:
    async def run() -> None:
        first = fleet(rebalance=2)
        async with contexts(first, 6) as streams:
            for stream in streams:
                await stream.send(EVENTS[:20])
                await stream.flush()
            second = await asyncio.to_thread(fleet, rebalance=2)
            async with asyncio.timeout(60):
                while sum(one.stats.reconnects for one in streams) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            for stream in streams:
                await stream.send(EVENTS[20:])
                flushed = await stream.flush()
                assert flushed.logits[0] == pytest.approx(SCORE)
            moved = len(second.service.registry.all())
            assert moved == sum(one.stats.reconnects for one in streams)
            assert moved >= 2

    asyncio.run(run())


class contexts:  # noqa: N801 a context manager of the tests' own
    """Several streams of the toy, open at the same time."""

    def __init__(self, server: Any, count: int) -> None:
        self._open = [saccade.connect(server.base, model="toy") for _ in range(count)]

    async def __aenter__(self) -> list[Any]:
        return [await one.__aenter__() for one in self._open]

    async def __aexit__(self, *error: Any) -> None:
        for one in self._open:
            await one.__aexit__(*error)


def test_a_client_that_asked_for_no_placement_is_not_moved(fleet: Any) -> None:
    first = fleet(rebalance=2)
    clients = [first.client() for _ in range(4)]
    opened = [one.__enter__() for one in clients]
    try:
        for client in opened:
            client.open()
        second = fleet(rebalance=2)
        know_each_other(first, second)
        rebalancer = first.service
        assert len(rebalancer.registry.all()) == 4
        assert not rebalancer.placed
    finally:
        for one in clients:
            one.__exit__(None, None, None)


def test_a_server_that_stops_says_so_and_its_sessions_go_on(fleet: Any) -> None:
    here, there = fleet(), fleet()
    know_each_other(here, there)

    async def run() -> None:
        async with contexts(here, 2) as streams:
            for stream in streams:
                await stream.send(EVENTS[:20])
                await stream.flush()
            drained = asyncio.run_coroutine_threadsafe(
                here.service.drain(2000), here.loop
            )
            await asyncio.wrap_future(drained)
            for stream in streams:
                await stream.send(EVENTS[20:])
                flushed = await stream.flush()
                assert flushed.logits[0] == pytest.approx(SCORE)
            assert sorted(one.stats.reconnects for one in streams) == [0, 1]

    asyncio.run(run())


def test_goaway_tells_a_stop_from_a_move(fleet: Any) -> None:
    server = fleet()
    with server.client() as client:
        client.open()
        asyncio.run_coroutine_threadsafe(server.service.drain(10), server.loop)
        leaving = client.hear_until(GoAway)
        assert (leaving.cause, leaving.reconnect_after_ms) == ("drain", 10)
        assert client.close_code() == 1012


def test_sessions_of_a_key_are_listed_and_ended_over_the_fleet(fleet: Any) -> None:
    key = new_key()
    here, there = (fleet(keys=(f"anna:{digest_of(key)}",)) for _ in range(2))
    know_each_other(here, there)
    headers = {"Authorization": f"Bearer {key}"}
    with there.client(additional_headers=headers) as client:
        session = client.open().session
        listed = httpx.get(f"{here.base}/v1/sessions", headers=headers).json()
        (found,) = listed["sessions"]
        assert found["session"] == session
        assert found["replica"] == there.service.settings.replica
        url = f"{here.base}/v1/sessions/{session}"
        assert httpx.get(url, headers=headers).json() == found
        assert httpx.delete(url, headers=headers).status_code == 204
        assert client.close_code() == 4404
        assert httpx.delete(url, headers=headers).status_code == 404


def test_a_ticket_of_one_server_opens_the_other_once(fleet: Any) -> None:
    key = new_key()
    here, there = (fleet(keys=(f"anna:{digest_of(key)}",)) for _ in range(2))
    headers = {"Authorization": f"Bearer {key}"}
    ticket = httpx.post(f"{here.base}/v1/tickets", headers=headers).json()["ticket"]
    url = f"{there.base.replace('http', 'ws')}/v1/stream?ticket={ticket}"
    with connect_websocket(url, compression=None):
        pass
    with pytest.raises(Exception, match="401"), connect_websocket(url):
        pass


def test_the_sessions_of_a_key_are_limited_over_the_fleet(fleet: Any) -> None:
    key = new_key()
    limits = {"keys": (f"anna:{digest_of(key)}",), "key_sessions": 1}
    here, there = fleet(**limits), fleet(**limits)
    know_each_other(here, there)
    headers = {"Authorization": f"Bearer {key}"}
    with here.client(additional_headers=headers) as first:
        first.open()
        wait_until(lambda: there.service.quotas.of("anna").sessions_elsewhere == 1)
        with there.client(additional_headers=headers) as second:
            second.say(Open("toy"))
            assert second.hear().code == "too_many_sessions"
    wait_until(lambda: there.service.quotas.of("anna").sessions_elsewhere == 0)


def test_a_fleet_without_redis_goes_on_alone(fleet: Any, redis: RedisServer) -> None:
    here, there = fleet(), fleet()
    know_each_other(here, there)
    redis.kill()
    wait_until(lambda: len(serving(here)) == 1, seconds=60)
    assert placed(here).json()["url"] == here.base
    redis.start()
    know_each_other(here, there)
    assert here.service.fleet.connected


def test_a_websocket_to_a_replica_that_is_gone_is_placed_again(fleet: Any) -> None:
    here, there = fleet(), fleet()
    know_each_other(here, there)
    gone = "http://127.0.0.1:9"

    async def run() -> None:
        report = there.service.fleet._own()
        fleets = here.service.fleet
        fleets._heard = [type(report)("gone", 0, gone, models=report.models)]
        opened: list[Any] = []
        for _ in range(4):
            await _stream(here, opened)
        assert {one.replica for one in opened} <= {
            one.service.settings.replica for one in (here, there)
        }

    asyncio.run(run())


def test_a_closed_websocket_is_not_a_move(fleet: Any) -> None:
    server = fleet()
    with server.client() as client:
        client.open()
        client.socket.close()
        with pytest.raises(ConnectionClosed):
            client.hear()
    wait_until(lambda: not server.service.placed and not server.service.connections)


def test_servers_that_advertise_nothing_share_tickets_and_place_nobody(
    fleet: Any,
) -> None:
    key = new_key()
    known = {"keys": (f"anna:{digest_of(key)}",), "host": "0.0.0.0"}
    here, there = fleet(**known), fleet(**known)
    headers = {"Authorization": f"Bearer {key}"}
    answer = placed(here, headers=headers).json()
    assert (answer["replica"], answer["others"]) == (None, [])
    ticket = httpx.post(f"{here.base}/v1/tickets", headers=headers).json()["ticket"]
    url = f"{there.base.replace('http', 'ws')}/v1/stream?ticket={ticket}"
    with connect_websocket(url, compression=None):
        pass

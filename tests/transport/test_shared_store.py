"""Two servers on one Redis: a session may go on at either, and belongs to one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from websockets.exceptions import ConnectionClosed

from saccade.server.protocol.messages import Ack, ErrorMessage
from saccade.server.sessions.registry import key_of
from saccade.server.sessions.stores.redis import PREFIX
from tests.redis_server import RedisServer
from tests.toy import event_scores, some_events, wait_until

EVENTS = some_events(41)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def pair(serve: Any, redis: RedisServer) -> tuple[Any, Any]:
    options = {"store": "redis", "store_url": redis.url, "snapshot_s": 0.05}
    return serve(**options), serve(**options)


def durable(client: Any) -> None:
    """Hear the client's messages until all that it has sent is durable."""
    while not client.of(Ack) or client.acked.durable_seq < client.seq:
        client.hear()


def test_a_session_goes_on_at_the_other_server(pair: tuple[Any, Any]) -> None:
    here, there = pair
    with here.client() as first:
        opened = first.open()
        first.send(EVENTS[:20])
        durable(first)
        token = first.token
        first.socket.socket.close()
    with there.client() as second:
        again = second.open(resume=token)
        assert (again.resumed, again.session, again.seq) == (True, opened.session, 1)
        second.seq = again.seq
        second.send(EVENTS[20:])
        closed = second.finish()
    assert (closed.ticks, closed.pending) == (20, 1)
    assert closed.logits[0] == pytest.approx(event_scores(EVENTS)[-1], rel=1e-6)


def test_the_server_that_a_session_left_is_fenced(pair: tuple[Any, Any]) -> None:
    here, there = pair
    with here.client() as first, there.client() as second:
        first.open()
        first.send(EVENTS[:20])
        durable(first)
        again = second.open(resume=first.token)  # `first` is connected yet
        assert again.resumed
        second.seq = again.seq
        with suppress(ConnectionClosed):  # the server may have noticed already
            first.send(EVENTS[20:30])  # which is never to count
        assert first.close_code() == 4410
        assert first.of(ErrorMessage)[-1].code == "taken_over"
        second.send(EVENTS[20:])
        closed = second.finish()
    assert closed.logits[0] == pytest.approx(event_scores(EVENTS)[-1], rel=1e-6)
    wait_until(lambda: here.service.engine.slots_used("toy") == 0)


def test_a_failover_that_lost_the_claim_harms_only_who_was_claimed_from(
    pair: tuple[Any, Any], redis: RedisServer
) -> None:
    here, there = pair
    with here.client() as first, there.client() as second:
        first.open()
        first.send(EVENTS[:20])
        durable(first)
        key = PREFIX + key_of(first.token)
        with Redis.from_url(redis.url) as replica:
            behind = replica.dump(key)
            second.open(resume=first.token)
            second.seq = 1
            replica.restore(key, 0, behind, replace=True)
        second.send(EVENTS[20:30])
        durable(second)
        with suppress(ConnectionClosed):  # the server may have noticed already
            first.send(EVENTS[20:30])
        assert first.close_code() == 4410
        assert first.of(ErrorMessage)[-1].code == "taken_over"
        second.send(EVENTS[30:])
        closed = second.finish()
    assert closed.logits[0] == pytest.approx(event_scores(EVENTS)[-1], rel=1e-6)


def test_a_store_that_loses_everything_ends_no_session(
    pair: tuple[Any, Any], redis: RedisServer
) -> None:
    here, there = pair
    with ExitStack() as stack:
        clients = [stack.enter_context(here.client()) for _ in range(5)]
        for client in clients:
            client.open()
            client.send(EVENTS[:20])
            durable(client)
        tokens = [client.token for client in clients]
        redis.wipe()
        for client in clients:
            client.send(EVENTS[20:30])
            durable(client)
        for client in clients:
            assert client.of(ErrorMessage) == []
            client.socket.socket.close()
    for token in tokens:
        with there.client() as again:
            again.seq = again.open(resume=token).seq
            again.send(EVENTS[30:])
            closed = again.finish()
        assert closed.logits[0] == pytest.approx(event_scores(EVENTS)[-1], rel=1e-6)


def test_what_is_durable_stops_while_the_store_is_away_and_catches_up(
    pair: tuple[Any, Any], redis: RedisServer
) -> None:
    here, _ = pair
    with here.client() as client:
        client.open()
        client.send(EVENTS[:10])
        durable(client)
        redis.kill()
        for number in range(10, 30):
            client.send(EVENTS[number : number + 1])
        while client.acked.seq < 20:
            client.hear()
        assert client.acked.durable_seq == 1
        redis.start()
        durable(client)
        assert client.of(ErrorMessage) == []
        client.send(EVENTS[30:])
        closed = client.finish()
    assert closed.logits[0] == pytest.approx(event_scores(EVENTS)[-1], rel=1e-6)


def test_while_the_store_hangs_sessions_begin_and_have_their_token_later(
    pair: tuple[Any, Any], redis: RedisServer
) -> None:
    here, there = pair
    redis.pause()
    with here.client() as client:
        opened = client.open()  # before the store has answered anything
        assert (opened.resume, opened.resume_ttl_ms) == (None, 300_000)
        client.send(EVENTS[:20])
        redis.go_on()
        durable(client)
        token = client.acked.resume
        assert token is not None
        client.socket.socket.close()
    with there.client() as again:
        again.seq = again.open(resume=token).seq
        again.send(EVENTS[20:])
        closed = again.finish()
    assert closed.logits[0] == pytest.approx(event_scores(EVENTS)[-1], rel=1e-6)


def test_without_its_store_a_server_goes_on_for_longer_than_a_lease_and_says_so(
    serve: Any, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"store": "redis", "store_url": redis.url, "snapshot_s": 0.05}
    server = serve(**options, lease_s=0.5)
    with server.client() as before:
        before.open()
        redis.kill()
        for number in range(20):
            before.send(EVENTS[2 * number : 2 * number + 2])
            time.sleep(0.1)
        with server.client() as after:
            assert after.open().resume is None
            after.send(EVENTS)
            assert after.finish().ticks == 20
        assert len(before.of(ErrorMessage)) == 0
        assert before.finish().ticks == 20
    metrics = server.service.metrics.exposition()
    assert b"saccade_session_store_failures_total 0" not in metrics
    assert b"saccade_session_store_up 0" in metrics
    outages = [one for one in caplog.records if "sessions go on" in one.message]
    assert len(outages) == 1

"""Two servers on one Redis: a session may go on at either, and belongs to one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from saccade.server.protocol.messages import Ack, ErrorMessage
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
    while client.hear_until(Ack).durable_seq < client.seq:
        pass


def test_a_session_goes_on_at_the_other_server(pair: tuple[Any, Any]) -> None:
    here, there = pair
    with here.client() as first:
        opened = first.open()
        first.send(EVENTS[:20])
        durable(first)
        first.socket.socket.close()
    with there.client() as second:
        again = second.open(resume=opened.resume)
        assert (again.resumed, again.session, again.seq) == (True, opened.session, 1)
        second.seq = again.seq
        second.send(EVENTS[20:])
        closed = second.finish()
    assert (closed.ticks, closed.pending) == (20, 1)
    assert closed.logits[0] == pytest.approx(event_scores(EVENTS)[-1], rel=1e-6)


def test_the_server_that_a_session_left_is_fenced(pair: tuple[Any, Any]) -> None:
    here, there = pair
    with here.client() as first, there.client() as second:
        opened = first.open()
        first.send(EVENTS[:20])
        durable(first)
        again = second.open(resume=opened.resume)  # `first` is connected yet
        second.seq = again.seq
        first.send(EVENTS[20:30])  # which is never to count
        assert first.close_code() == 4410
        assert first.of(ErrorMessage)[-1].code == "taken_over"
        second.send(EVENTS[20:])
        closed = second.finish()
    assert closed.logits[0] == pytest.approx(event_scores(EVENTS)[-1], rel=1e-6)
    wait_until(lambda: here.service.engine.slots_used("toy") == 0)


def test_without_its_store_a_server_goes_on_and_says_so(
    serve: Any, redis: RedisServer
) -> None:
    server = serve(store="redis", store_url=redis.url, snapshot_s=0.05)
    with server.client() as before:
        before.open()
        redis.kill()
        before.send(EVENTS)
        with server.client() as after:
            assert after.open().resume is None
            after.send(EVENTS)
            assert after.finish().ticks == 20
        assert before.finish().ticks == 20
    assert b"saccade_session_store_failures_total 0" not in (
        server.service.metrics.exposition()
    )

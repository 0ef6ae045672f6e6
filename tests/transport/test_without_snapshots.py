"""`--snapshot-s 0`: sessions live in the server's memory alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from saccade.clients.connection import connect
from saccade.clients.session import Bounds
from saccade.server.protocol.messages import Ack, GoAway, Open
from tests.faults import Gate
from tests.toy import event_scores, some_events, toy_model, wait_until
from tests.transport.conftest import Server, serving

OFF = {"snapshot_s": 0.0}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "sessions.sqlite"


@pytest.fixture(scope="module")
def server(path: Path) -> Iterator[Server]:
    with serving(store="sqlite", store_path=path, **OFF) as running:
        yield running


def test_a_lost_connection_ends_its_session_and_frees_the_slot(
    server: Server, path: Path
) -> None:
    with server.client() as client:
        opened = client.open()
        assert (opened.resume, opened.resume_ttl_ms) == (None, 0)
        client.send(some_events(9))
        assert client.hear_until(Ack).durable_seq == 0
        client.socket.socket.close()
    wait_until(lambda: server.service.engine.slots_used("toy") == 0)
    assert server.service.streams.open_streams("toy") == 0
    assert b"saccade_snapshots_total 0.0" in server.service.metrics.exposition()
    assert not path.exists()


def test_a_token_of_another_time_is_unknown(server: Server) -> None:
    with server.client() as client:
        client.say(Open("toy", resume="a token of another time"))
        assert client.close_code() == 4404
        assert client.error.code == "unknown_session"


async def test_the_sdk_waits_for_no_durable_frame(server: Server) -> None:
    events = some_events(400)
    bounds = Bounds(kept_bytes=64)
    async with connect(server.base, model="toy", bounds=bounds) as stream:
        for start in range(0, 400, 20):
            await stream.send(events[start : start + 20])
        closed = await stream.close()
    assert closed.logits is not None
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


def test_a_drain_says_goaway_and_finishes_the_ticks(serve: Any) -> None:
    gate = Gate()
    server = serve(toy_model(advance=gate.advance), drain_s=2.0, **OFF)
    with server.client() as client:
        client.open()
        with gate:
            client.send(some_events(40))
            draining = asyncio.run_coroutine_threadsafe(
                server.service.drain(100), server.loop
            )
            client.hear_until(GoAway)
        assert client.close_code() == 1012
        assert (client.acked.events, len(client.scores)) == (40, 20)
    draining.result(60)
    assert server.service.engine.slots_used("toy") == 0

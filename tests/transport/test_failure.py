"""A device that fails under a real server: reported, survived, never waited for."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from saccade.clients.connection import connect
from saccade.clients.errors import StreamError
from saccade.server.protocol.messages import Ack, Result
from tests.faults import Fault
from tests.toy import event_scores, some_events, toy_model, wait_until

FAST = {"snapshot_s": 0.05}


def test_a_client_is_told_of_a_failure_and_goes_on_from_what_was_kept(
    serve: Any,
) -> None:
    fault, events = Fault(), some_events(60)
    server = serve(toy_model("a", advance=fault.advance), toy_model("b"), **FAST)
    with server.client() as client, server.client() as other:
        opened = client.open("a")
        other.open("b")
        client.send(events[:21])
        while client.hear_until(Ack).durable_seq < 1:
            pass
        fault.arm(1)
        client.send(events[21:40])
        assert client.close_code() == 1011
        assert client.error.code == "engine_failed"
        assert fault.TEXT not in client.error.message
        other.send(events)
        assert other.finish().logits[0] == pytest.approx(event_scores(events)[-1])
    wait_until(lambda: server.service.engine.health.ready)
    assert httpx.get(f"{server.base}/healthz").status_code == 200
    assert b'saccade_engine_failures_total{model="a"} 1.0' in (
        server.service.metrics.exposition()
    )
    with server.client() as again:
        again.seq = again.open("a", resume=opened.resume).seq
        assert again.seq == 1
        again.send(events[21:])
        closed = again.finish()
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


async def test_the_sdk_survives_a_failure_of_the_engine_by_itself(serve: Any) -> None:
    fault, events = Fault(), some_events(400)
    server = serve(toy_model(advance=fault.advance), **FAST)
    async with connect(server.base, model="toy") as stream:
        for start in range(0, 400, 20):
            if start in {100, 240}:
                fault.arm(1)
            await stream.send(events[start : start + 20])
            await stream.flush()
        closed = await stream.close()
        assert stream.stats.reconnects == 2
    assert closed.events == 400
    assert closed.logits is not None
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


async def test_a_device_that_stays_broken_turns_health_red_and_ends_the_stream(
    serve: Any,
) -> None:
    fault, events = Fault(), some_events(40)
    server = serve(toy_model(advance=fault.advance), **FAST)
    async with connect(server.base, model="toy") as stream:
        await stream.send(events[:20])
        await stream.flush()
        fault.arm(10**6)
        await stream.send(events[20:])
        with pytest.raises(StreamError) as failure:
            await stream.flush()
        assert failure.value.code == "engine_failed"
    for route in ("healthz", "readyz"):
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{server.base}/{route}")
        assert answer.status_code == 503
        assert answer.json()["models"] == {"toy": "failed"}


def test_a_session_without_a_slot_lives_through_a_failure_unharmed(serve: Any) -> None:
    fault, events = Fault(), some_events(40)
    server = serve(toy_model(advance=fault.advance), slots=1, **FAST)
    with server.client() as idle, server.client() as busy:
        idle.open()
        idle.send(events[:20])
        while len(idle.scores) < 10:
            idle.hear_until(Result)
        busy.open()
        busy.send(events[:10])
        busy.hear_until(Result)
        fault.arm(1)
        busy.send(some_events(10, start_us=1000))
        assert busy.close_code() == 1011
        idle.send(events[20:])
        closed = idle.finish()
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)

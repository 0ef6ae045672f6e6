"""More sessions than slots, over real sockets: nobody notices but for the time."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from saccade.clients.connection import connect
from saccade.server.protocol.messages import Ack, Flush, Flushed, Open
from tests.toy import event_scores, some_events, wait_until

FEW = {"slots": 2, "snapshot_s": 0.05}


def test_nine_sessions_on_two_slots_score_as_if_each_were_alone(serve: Any) -> None:
    server = serve(**FEW)
    parts = [some_events(120, seed=n) for n in range(9)]
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in parts]
        for client in clients:
            client.open()
        for start in range(0, 120, 15):
            for client, events in zip(clients, parts, strict=True):
                client.send(events[start : start + 15])
        for client, events in zip(clients, parts, strict=True):
            closed = client.finish()
            assert client.scores == pytest.approx(event_scores(events), rel=1e-6)
            assert (closed.ticks, closed.pending) == (60, 0)
    wait_until(lambda: server.service.engine.slots_used("toy") == 0)


@pytest.mark.parametrize("snapshot_s", [0.05, 0.0])
def test_silent_sessions_give_way_and_come_back_where_they_were(
    serve: Any, snapshot_s: float
) -> None:
    server = serve(slots=2, snapshot_s=snapshot_s)
    events = some_events(40)
    with ExitStack() as stack:
        first = stack.enter_context(server.client())
        first.open()
        first.send(events[:21])
        first.say(Flush(1))
        first.hear_until(Flushed)
        for n in range(4):
            other = stack.enter_context(server.client())
            other.open()
            other.send(some_events(9, seed=n))
            other.say(Flush(1))
            assert other.hear_until(Flushed).ticks == 4
        assert server.service.streams.swapped_out("toy") == 3
        exposition = server.service.metrics.exposition()
        for name in (b"swapped_out", b"ashore"):
            assert b'saccade_sessions_%s{model="toy"} 3.0' % name in exposition
        first.send(events[21:])
        first.finish()
        assert first.scores == pytest.approx(event_scores(events), rel=1e-6)


def test_a_recording_is_classified_though_every_slot_is_held(serve: Any) -> None:
    server, events = serve(**FEW), some_events(40)
    with ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(server.client())
            client.open()
            client.send(some_events(4))
            client.hear_until(Ack)
        rows = [dict(zip("txyp", (events[f].tolist() for f in "txyp"), strict=True))]
        answer = httpx.post(
            f"{server.base}/v1/classify", json={"model": "toy", "recordings": rows}
        )
    (result,) = answer.json()["results"]
    assert result["logits"][0] == pytest.approx(event_scores(events)[-1])


def test_a_session_without_a_slot_is_saved_and_resumed_like_any_other(
    serve: Any,
) -> None:
    server, events = serve(**FEW), some_events(40)
    with ExitStack() as stack:
        first = stack.enter_context(server.client())
        opened = first.open()
        first.send(events[:21])
        for n in range(3):
            other = stack.enter_context(server.client())
            other.open()
            other.send(some_events(8, seed=n))
            other.hear_until(Ack)
        first.socket.socket.close()
        again = stack.enter_context(server.client())
        resumed = again.open(resume=opened.resume)
        again.seq = resumed.seq
        again.send(events[21 * resumed.seq :])
        closed = again.finish()
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


def test_whoever_says_nothing_for_too_long_is_told_and_may_come_back(
    serve: Any,
) -> None:
    server, events = serve(idle_s=1.5, snapshot_s=0.05), some_events(40)
    with server.client() as first:
        opened = first.open()
        for start in range(0, 20, 5):  # a slow sensor is not a silent one
            first.send(events[start : start + 5])
            time.sleep(0.5)
        assert first.close_code() == 4408
        assert first.error.code == "session_idle"
        assert "nothing came for 1.5 s" in first.error.message
    with server.client() as second:
        second.seq = second.open(resume=opened.resume).seq
        second.send(events[20:])
        closed = second.finish()
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


async def test_the_sdk_comes_back_once_it_has_something_to_say(serve: Any) -> None:
    server, events = serve(idle_s=1.0, snapshot_s=0.05), some_events(40)
    async with connect(server.base, model="toy") as stream:
        await stream.send(events[:21])
        await asyncio.to_thread(wait_until, lambda: not server.service.connections)
        assert stream.stats.reconnects == 0
        await stream.send(events[21:])
        closed = await stream.close()
        assert stream.stats.reconnects == 1
    assert closed.logits is not None
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


def test_beyond_every_place_a_session_is_refused_by_name(serve: Any) -> None:
    server = serve(slots=1, sessions=2)
    with server.client() as one, server.client() as two, server.client() as three:
        one.open()
        two.open()
        three.say(Open("toy"))
        assert three.close_code() == 1013
        assert three.error.code == "slots_exhausted"
        assert "2" in three.error.message

"""A live source that is faster than the server, over a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.clients.commands.cli import stream as command
from saccade.clients.connection import connect
from saccade.clients.session import Bounds
from saccade.server.protocol.messages import Ack, GoAway, Result
from saccade.server.transport.send_queue import Ending
from tests.faults import Gate
from tests.toy import event_scores, some_events, toy_model, wait_until

WINDOW = {"window_events": 1000, "window_bytes": 8000, "max_frame_bytes": 4000}
FRAME = 400


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_a_server_that_is_behind_reads_on_and_tells_exactly_what_it_dropped(
    serve: Any, gate: Gate
) -> None:
    server = serve(toy_model(advance=gate.advance), **WINDOW)
    events = some_events(20 * FRAME)
    with server.client() as client:
        client.open(when_full="drop-oldest")
        with gate:
            for start in range(0, len(events), FRAME):
                client.send(events[start : start + FRAME])
            received = server.service.metrics.model("toy").events_received
            wait_until(lambda: received.value == len(events))
            dropped = server.service.metrics.model("toy").events_dropped.value
            assert dropped >= len(events) - 1000 - FRAME
        closed = client.finish()
        assert client.of(Ack)[-1].dropped == closed.dropped == dropped
        assert closed.events + closed.dropped + closed.pending == len(events)
        assert client.of(Ack)[-1].events == len(events)
        assert client.of(Ack)[-1].bytes == 8 * len(events)
    kept = np.concatenate([events[: closed.events - 1000], events[-1000:]])
    assert client.scores == pytest.approx(event_scores(kept), rel=1e-5)
    assert b"saccade_events_dropped_total" in server.service.metrics.exposition()


def test_a_live_session_with_a_largest_lag_drops_what_is_old_and_counts_it(
    serve: Any, gate: Gate
) -> None:
    server = serve(toy_model(advance=gate.advance))
    events = some_events(20 * FRAME)
    with server.client() as client:
        client.open(when_full="drop-oldest", max_lag_ms=50)
        with gate:
            for start in range(0, len(events) - FRAME, FRAME):
                client.send(events[start : start + FRAME])
            received = server.service.metrics.model("toy").events_received
            wait_until(lambda: received.value == len(events) - FRAME)
            time.sleep(0.1)
            client.send(events[-FRAME:])
            wait_until(lambda: received.value == len(events))
        closed = client.finish()
        ack = client.of(Ack)[-1]
    assert closed.dropped == ack.dropped > 10 * FRAME
    assert closed.events + closed.dropped + closed.pending == len(events)
    assert closed.t_us == events["t"][-1]
    assert ack.lag_ms is not None
    exposition = server.service.metrics.exposition()
    assert b'saccade_event_latency_seconds_bucket{le="0.0001",model="toy"}' in (
        exposition
    )
    assert b"saccade_events_late_total" in exposition


async def test_the_sdk_keeps_to_the_window_of_a_largest_lag(serve: Any) -> None:
    server, events = serve(), some_events(5 * FRAME)
    async with connect(server.base, model="toy", max_lag_ms=50) as stream:
        for start in range(0, len(events), FRAME):
            await stream.send(events[start : start + FRAME])
        await stream.flush()
        stats = stream.stats
        assert stats.lag_ms is not None
        assert stats.window_events is not None
        assert 4 <= stats.window_events <= 1 << 19
        closed = await stream.close()
    assert closed.logits is not None
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-5)


async def test_a_live_sdk_stream_never_waits_and_its_counts_add_up(
    serve: Any, gate: Gate
) -> None:
    server = serve(toy_model(advance=gate.advance), **WINDOW)
    events = some_events(50 * FRAME)
    async with connect(server.base, model="toy", when_full="drop-oldest") as stream:
        with gate:
            for start in range(0, len(events), FRAME):
                await stream.send(events[start : start + FRAME])
        closed = await stream.close()
        assert closed.dropped is not None
        assert closed.dropped > 0
        lost = stream.stats.dropped_events
        assert closed.events + closed.pending + lost == len(events)


def test_a_client_of_the_latest_result_receives_fewer_and_the_last(
    serve: Any,
) -> None:
    server = serve(**WINDOW)
    events = some_events(3000)
    with server.client() as client:
        client.open(results="latest")
        for start in range(0, 3000, 300):
            client.send(events[start : start + 300])
        closed = client.finish()
        ticks = [result.ticks for result in client.of(Result)]
    assert closed.ticks == ticks[-1] == 1500
    assert ticks == sorted(set(ticks))
    assert len(ticks) < 1500


async def test_a_live_source_goes_on_while_its_connection_is_down(serve: Any) -> None:
    server, events = serve(snapshot_s=0.05), some_events(50 * FRAME)
    service = server.service

    def cut() -> None:
        for queue in service.connections:
            queue.put(GoAway("a cut", 2500))
            queue.end(Ending(1012))

    bounds = Bounds(kept_bytes=8 * 10 * FRAME)
    opening = {"model": "toy", "when_full": "drop-oldest", "bounds": bounds}
    opening["max_lag_ms"] = None  # what comes after the cut is old, and not dropped
    async with connect(server.base, **opening) as stream:
        await stream.send(events[:FRAME])
        await stream.flush()
        server.loop.call_soon_threadsafe(cut)
        await asyncio.to_thread(wait_until, lambda: stream.goaway is not None)
        for start in range(FRAME, len(events), FRAME):
            await stream.send(events[start : start + FRAME])
        assert stream.stats.reconnects == 0, "sending waited for the connection"
        closed = await stream.close()
        stats = stream.stats
        assert stats.reconnects == 1
        assert stats.dropped_locally >= 39 * FRAME
        assert closed.events + closed.pending + stats.dropped_events == len(events)
    kept = np.concatenate(
        [events[:FRAME], events[len(events) - closed.events + FRAME :]]
    )
    assert closed.logits is not None
    assert closed.logits[0] == pytest.approx(event_scores(kept)[-1], rel=1e-5)


def test_the_command_plays_a_live_source_and_sums_up_what_was_dropped(
    serve: Any, gate: Gate, tmp_path: Path, capsys: Any
) -> None:
    server = serve(toy_model(advance=gate.advance), **WINDOW)
    events = some_events(20 * FRAME)
    np.save(tmp_path / "toy.npy", events)
    source = [str(tmp_path / "toy.npy"), "--sensor", "4x4", "--speed", "max"]
    options = ["--url", server.base, "--model", "toy", "--json", "--report", "flush"]
    with gate:
        playing = threading.Thread(
            target=command, args=([*source, *options, "--when-full", "drop-oldest"],)
        )
        playing.start()
        received = server.service.metrics.model("toy").events_received
        wait_until(lambda: received.value == len(events))
    playing.join(20)
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["events_dropped"] > 0
    assert summary["events_sent"] == len(events)
    counted = ("events_scored", "events_pending", "events_dropped")
    assert sum(summary[name] for name in counted) == len(events)

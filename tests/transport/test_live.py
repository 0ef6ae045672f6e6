"""A live source that is faster than the server, over a real socket."""

from __future__ import annotations

import threading
from typing import Any

import jax
import numpy as np
import pytest

from clients.connection import connect
from server.protocol.messages import Ack, Result
from tests.toy import event_scores, some_events, toy_advance, toy_model, wait_until

WINDOW = {"window_events": 1000, "window_bytes": 8000, "max_frame_bytes": 4000}
FRAME = 400


class Gate:
    """A model that waits, on the device, until it is let through."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()

    def advance(self, *arguments: Any) -> Any:
        carry, logits = toy_advance(*arguments)
        jax.debug.callback(lambda _: self._open.wait(30) or None, logits[0, 0, 0])
        return carry, logits

    def __enter__(self) -> None:
        self._open.clear()

    def __exit__(self, *_: object) -> None:
        self._open.set()


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
            received = server.service.metrics.model("toy").events_received._value
            wait_until(lambda: received.get() == len(events))
            dropped = server.service.metrics.model("toy").events_dropped._value.get()
            assert dropped >= len(events) - 1000 - FRAME
        closed = client.finish()
        assert client.of(Ack)[-1].dropped == closed.dropped == dropped
        assert closed.events + closed.dropped + closed.pending == len(events)
        assert client.of(Ack)[-1].events == len(events)
        assert client.of(Ack)[-1].bytes == 8 * len(events)
    kept = np.concatenate([events[: closed.events - 1000], events[-1000:]])
    assert client.scores == pytest.approx(event_scores(kept), rel=1e-5)
    assert b"saccade_events_dropped_total" in server.service.metrics.exposition()


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
        lost = stream.traffic.dropped_events
        assert closed.events + closed.pending + lost == len(events)


def test_whoever_wants_the_latest_result_hears_less_and_the_end_of_it(
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

"""The blocking SDK against a scripted server on a real websocket."""

from __future__ import annotations

import asyncio
import threading

import pytest

from saccade.clients.blocking import LoopThread, connect
from saccade.clients.errors import ServerUnreachable, StreamClosed, StreamError
from saccade.server.protocol.messages import (
    Ack,
    ErrorMessage,
    EventsFrame,
    Flush,
    Flushed,
)
from tests.clients.scripted import FINAL, moving, result


async def one_tick(peer):
    await peer.open()
    await peer.expect(EventsFrame)
    await peer.send(Ack(1, 4, 32))
    await peer.send(result(4))
    request = await peer.expect(Flush)
    await peer.send(Flushed(request.id, 1, 1, 4, 0, 4000, [2.0, 0.0], "left", 0.88))
    await peer.finish()


def test_the_blocking_sdk_has_the_same_names(served):
    with connect(served(one_tick), model="toy") as stream:
        assert stream.opened.labels == ["left", "right"]
        stream.send(moving(4))
        assert next(stream).label == "left"
        assert stream.flush().confidence == 0.88
        assert stream.received() == []
        assert stream.close() == FINAL
        assert list(stream) == []
    assert stream.stats.events == 4


def test_a_thread_that_iterates_ends_with_the_stream(served):
    async def script(peer):
        await peer.open()
        await peer.send(result(4))
        await peer.finish()

    seen, ended = [], threading.Event()

    def iterate(stream):
        seen.extend(found.events for found in stream)
        ended.set()

    for _ in range(5):
        with connect(served(script), model="toy") as stream:
            thread = threading.Thread(target=iterate, args=(stream,))
            thread.start()
        thread.join()
        assert list(stream) == []
    assert ended.is_set()
    assert seen == [4] * 5


def test_a_stream_that_has_ended_says_so(served):
    with connect(served(one_tick), model="toy") as stream:
        stream.send(moving(4))
        stream.flush()
    for call in (stream.flush, lambda: stream.send(moving(1)), stream.received):
        with pytest.raises(StreamClosed):
            call()


def test_leaving_the_context_closes_the_session(served):
    with connect(served(one_tick), model="toy") as stream:
        stream.send(moving(4))
        stream.flush()
    assert stream.closed == FINAL
    assert not [t for t in threading.enumerate() if t.name == "saccade-client"]


def test_a_refused_frame_is_raised_in_the_callers_thread(served):
    async def script(peer):
        await peer.open()
        await peer.expect(EventsFrame)
        request = await peer.expect(Flush)
        await peer.send(ErrorMessage("unsorted_events", "no", fatal=False, seq=1))
        await peer.send(Flushed(request.id, 0, 0, 0, 0))
        await peer.finish()

    with connect(served(script), model="toy") as stream:
        stream.send(moving(3))
        with pytest.raises(StreamError, match="unsorted_events"):
            stream.flush()


def test_an_error_in_the_callers_code_leaves_no_thread_behind(served):
    url = served(one_tick)
    with pytest.raises(ZeroDivisionError), connect(url, model="toy"):
        1 / 0  # noqa: B018
    assert not [t for t in threading.enumerate() if t.name == "saccade-client"]


def test_an_unreachable_server_leaves_no_thread_behind(unused_tcp_port):
    with (
        pytest.raises(ServerUnreachable),
        connect(f"ws://127.0.0.1:{unused_tcp_port}", model="toy"),
    ):
        pass
    assert not [t for t in threading.enumerate() if t.name == "saccade-client"]


def test_a_call_that_was_given_up_leaves_no_task_behind():
    started, ended = threading.Event(), threading.Event()

    async def wait():
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    with LoopThread() as thread:
        asyncio.run_coroutine_threadsafe(wait(), thread._loop)
        started.wait()
    assert ended.is_set()

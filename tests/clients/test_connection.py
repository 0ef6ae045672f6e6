"""The asynchronous SDK against a scripted server on a real websocket."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from saccade.clients.connection import connect
from saccade.clients.errors import (
    ConnectionLost,
    RequestRefused,
    ServerUnreachable,
    StreamClosed,
    StreamError,
    WrongEncoding,
)
from saccade.clients.session import Bounds
from saccade.model.events.encodings.packed import unpack
from saccade.model.events.sensor import Sensor
from saccade.server.protocol.errors import UnknownModel
from saccade.server.protocol.messages import (
    Ack,
    ErrorMessage,
    EventsFrame,
    Flush,
    Flushed,
    GoAway,
    Open,
    Report,
    Reset,
    WasReset,
    error_message,
)
from tests.clients.scripted import (
    FINAL,
    moving,
    opened,
    result,
    scripted,
    streaming,
)

EPOCH_US = 1_700_000_000_000_000


async def test_a_session_opens_sends_receives_and_closes():
    frames = []

    async def script(peer):
        await peer.open()
        frames.append(await peer.expect(EventsFrame))
        await peer.send(Ack(1, 4, 32))
        await peer.send(result(4))
        await peer.finish()

    events = moving(4, start_us=EPOCH_US)
    async with streaming(script) as stream:
        assert stream.opened.labels == ["left", "right"]
        await stream.send(events)
        first = await anext(stream)
        assert (first.label, first.events) == ("left", 4)
        assert await stream.close() == FINAL
    decoded = unpack(frames[0].data, frames[0].t_base_us)
    assert np.array_equal(decoded["t"], events["t"])
    assert np.array_equal(decoded["x"], events["x"])
    assert len(stream.stats.latencies_ms) == 1


async def test_what_the_caller_chose_reaches_the_server():
    openings = []

    async def script(peer):
        openings.append(await peer.open())
        await peer.finish()

    choices = {"sensor": Sensor(640, 480), "fit": "scale", "report": Report("ms", 20)}
    async with streaming(script, **choices):
        pass
    assert openings == [Open("toy", **choices)]


async def test_iteration_ends_with_the_session():
    async def script(peer):
        await peer.open()
        await peer.send(result(4))
        await peer.send(result(8, label="right"))
        await peer.finish()

    async with streaming(script) as stream:
        closing = asyncio.create_task(stream.close())
        assert [found.label async for found in stream] == ["left", "right"]
        assert (await closing).label == "left"


async def test_sending_waits_for_credit_and_goes_on_with_it():
    acked = asyncio.Event()
    seen = []

    async def script(peer):
        await peer.open(window_events=8, window_bytes=64)
        seen.extend([(await peer.expect(EventsFrame)).seq for _ in range(4)])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.socket.recv(), 0.1)
        acked.set()
        await peer.send(Ack(4, 8, 64))
        seen.extend([(await peer.expect(EventsFrame)).seq for _ in range(4)])
        await peer.finish()

    async with streaming(script) as stream:
        sending = asyncio.create_task(stream.send(moving(16)))
        await acked.wait()
        assert stream.stats.frames == 4
        await sending
    assert seen == list(range(1, 9))


async def test_a_refused_frame_is_raised_from_the_next_send_and_the_session_goes_on():
    async def script(peer):
        await peer.open()
        await peer.expect(EventsFrame)
        request = await peer.expect(Flush)
        facts = {"seq": 1, "field": "x", "index": 2, "value": 200}
        code = "event_outside_sensor"
        await peer.send(ErrorMessage(code, "x is 200", fatal=False, **facts))
        await peer.send(Ack(1, 3, 24))
        await peer.send(Flushed(request.id, 0, 0, 0, 0))
        assert (await peer.expect(EventsFrame)).seq == 2
        await peer.finish()

    async with streaming(script) as stream:
        await stream.send(moving(3))
        with pytest.raises(StreamError, match="x is 200") as refused:
            await stream.flush()
        assert (refused.value.seq, refused.value.index) == (1, 2)
        assert (refused.value.field, refused.value.value) == ("x", 200)
        assert not refused.value.fatal
        assert stream.stats.refused_events == 3
        await stream.send(moving(3))


async def test_a_refusal_ends_neither_task_in_silence():
    """A sender that ends with a refusal leaves no iterator waiting for ever."""

    async def script(peer):
        await peer.open()
        await peer.expect(EventsFrame)
        await peer.send(result(4))
        await peer.send(ErrorMessage("unsorted_events", "no", fatal=False, seq=1))
        await peer.finish()

    async with streaming(script) as stream:
        await stream.send(moving(3))
        assert (await anext(stream)).events == 4
        with pytest.raises(StreamError, match="unsorted_events"):
            await anext(stream)
        with pytest.raises(StreamError, match="unsorted_events"):
            await stream.send(moving(3))
        assert stream.stats.first_refusal == "no (unsorted_events)"


async def test_answers_have_the_caller_s_time():
    async def script(peer):
        await peer.open()
        assert (await peer.expect(EventsFrame)).t_base_us == 0
        await peer.send(result(4))
        request = await peer.expect(Flush)
        await peer.send(Flushed(request.id, 1, 1, 4, 0, 4000))
        await peer.finish()

    async with streaming(script) as stream:
        await stream.send(moving(4, start_us=-100))
        assert (await anext(stream)).t_us == 3900
        assert (await stream.flush()).t_us == 3900
        assert (await stream.close()).t_us == 3900


async def test_events_and_raw_words_each_need_their_own_stream():
    async def script(peer):
        await peer.open()
        await peer.finish()

    async with streaming(script) as stream:
        with pytest.raises(WrongEncoding, match="use `send`"):
            await stream.send_raw(b"")
    async with streaming(script, encoding="evt3", sensor=(640, 480)) as stream:
        with pytest.raises(WrongEncoding, match="use `send_raw`"):
            await stream.send(moving(1))


async def test_another_process_s_session_goes_on_where_it_was():
    """Frames are numbered on, and the credit counts from the server's totals."""
    seen = []

    async def script(peer):
        token = "token"
        assert (await peer.expect(Open)).resume == token
        await peer.send(
            opened(resume=token, resumed=True, seq=7, window_events=8, window_bytes=64)
        )
        await peer.send(Flushed(1, 7, 0, 0, 0))
        await peer.send(ErrorMessage("unsorted_events", "old", fatal=False, seq=6))
        await peer.send(Ack(5, 500, 4000))
        await peer.send(Ack(7, 520, 4160))
        seen.extend([(await peer.expect(EventsFrame)).seq for _ in range(4)])
        await peer.send(Ack(11, 528, 4224, durable_seq=9))
        seen.extend([(await peer.expect(EventsFrame)).seq for _ in range(2)])
        peer.socket.transport.abort()

    async def script_again(peer):
        await peer.open(resume="token", resumed=True, seq=12, window_events=8)
        await peer.send(Ack(12, 530, 4240))
        seen.append((await peer.expect(EventsFrame)).seq)
        await peer.finish()

    async with streaming(script, script_again, resume="token") as stream:
        await stream.send(moving(12))
    assert seen == [8, 9, 10, 11, 12, 13, 13]
    assert stream.stats.refused_frames == 0


async def test_invalid_events_are_left_out_and_counted_where_that_was_chosen():
    sent = []

    async def script(peer):
        assert (await peer.open()).invalid == "skip"
        frame = await peer.expect(EventsFrame)
        sent.extend(unpack(frame.data, frame.t_base_us)["x"].tolist())
        await peer.send(Ack(1, 4, 32, skipped=2))
        await peer.send(result(4))
        await peer.finish()

    events = moving(5).astype([("t", "<i8"), ("x", "<i4"), ("y", "<i4"), ("p", "<i4")])
    events["x"] = [0, 1300, -1, 3, 4]
    async with streaming(script, invalid="skip") as stream:
        await stream.send(events)
        await anext(stream)
        assert stream.stats.skipped_events == 3
        assert stream.stats.skipped_locally == 1
    assert sent == [0, 1300, 3, 4]


async def test_slightly_unsorted_events_are_sorted_before_they_are_sent():
    sent = []

    async def script(peer):
        await peer.open()
        for _ in range(2):
            frame = await peer.expect(EventsFrame)
            sent.append(unpack(frame.data, frame.t_base_us)["t"].tolist())
        request = await peer.expect(Flush)
        await peer.send(Flushed(request.id, 2, 0, 0, 4))
        frame = await peer.expect(EventsFrame)
        sent.append(unpack(frame.data, frame.t_base_us)["t"].tolist())
        await peer.finish()

    events = moving(8)
    async with streaming(script, sort_within_us=20) as stream:
        await stream.send(events[[0, 2, 1, 4]])
        await stream.send(events[[3]])
        await stream.flush()
        await stream.send(events[[5]])
    assert sent == [[0, 10, 20], [30, 40], [50]]


async def test_a_server_that_does_not_answer_yet_can_be_waited_for(unused_tcp_port):
    async def script(peer):
        await peer.open()
        await peer.finish()

    async def stream():
        url = f"ws://127.0.0.1:{unused_tcp_port}"
        async with connect(url, model="toy", wait_for_server_s=60) as stream:
            return stream.opened.model

    opening = asyncio.create_task(stream())
    await asyncio.sleep(0.05)
    async with scripted(script, port=unused_tcp_port):
        assert await opening == "toy"


async def test_a_key_is_shown_and_its_lack_named():
    keys = []

    def refuse(socket):
        keys.append(socket.request.headers.get("Authorization"))
        body = b'{"code": "unauthorized", "detail": "a key is needed"}'
        return Response(401, "Unauthorized", Headers(), body)

    async def script(peer):
        await peer.open()

    with pytest.raises(RequestRefused, match="SACCADE_KEY"):
        async with streaming(script, handshakes=[refuse], key="k1 "):
            pass
    assert keys == ["Bearer k1"]


async def test_a_refusal_that_no_call_has_raised_is_raised_on_leaving():
    async def script(peer):
        await peer.open()
        await peer.expect(EventsFrame)
        for seq in (1, 2):
            await peer.send(ErrorMessage("unsorted_events", "no", fatal=False, seq=seq))
        await peer.finish()

    with pytest.raises(StreamError, match="and 1 more"):
        async with streaming(script) as stream:
            await stream.send(moving(3))
    assert stream.closed == FINAL


async def test_a_fatal_error_is_raised_from_every_call_that_waits():
    async def script(peer):
        await peer.open()
        await peer.send(result(4))
        await peer.send(ErrorMessage("engine_failed", "the engine failed", fatal=True))
        await peer.socket.close(1011)

    async with streaming(script) as stream:
        assert (await anext(stream)).label == "left"
        with pytest.raises(StreamError, match="engine_failed"):
            await anext(stream)
        with pytest.raises(StreamError, match="engine_failed"):
            await stream.send(moving(1))


async def test_a_refused_open_says_why():
    async def script(peer):
        await peer.expect(Open)
        await peer.send(error_message(UnknownModel("tpy", ("toy",))))
        await peer.socket.close(4404)

    async with scripted(script) as url:
        with pytest.raises(StreamError, match="served here: toy") as refused:
            async with connect(url, model="tpy"):
                pass
    assert (refused.value.code, refused.value.fatal) == ("unknown_model", True)


async def test_a_lost_connection_is_another_error_than_a_close():
    async def script(peer):
        await peer.open()
        await peer.send(GoAway("restart", 500))
        await peer.expect(EventsFrame)
        await peer.socket.close(1012, "restart")

    async with streaming(script) as stream:
        await stream.send(moving(1))
        with pytest.raises(ConnectionLost, match="1012") as lost:
            await stream.flush()
        assert (lost.value.close_code, lost.value.reason) == (1012, "restart")
        assert stream.goaway == GoAway("restart", 500)


async def test_a_sender_out_of_credit_raises_that_the_connection_was_lost():
    async def script(peer):
        await peer.open(window_events=4, window_bytes=32)
        for _ in range(4):
            await peer.expect(EventsFrame)
        peer.socket.transport.abort()

    async with streaming(script) as stream:
        with pytest.raises(ConnectionLost):
            await stream.send(moving(16))


async def test_an_unreachable_server_is_one_clear_error(unused_tcp_port):
    url = f"ws://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(ServerUnreachable, match=url):
        async with connect(url, model="toy"):
            pass


async def test_a_server_of_something_else_is_unreachable_too():
    async def answer(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServerUnreachable, match="404"):
            async with connect(f"ws://127.0.0.1:{port}", model="toy"):
                pass


async def test_an_answer_that_is_no_message_ends_the_session():
    async def script(peer):
        await peer.open()
        await peer.socket.send(b"\xc1")
        await peer.socket.wait_closed()

    async with streaming(script) as stream:
        with pytest.raises(ConnectionLost, match="sent no message"):
            await anext(stream)


async def test_a_reset_starts_time_and_counts_anew():
    bases = []

    async def script(peer):
        await peer.open()
        await peer.expect(EventsFrame)
        request = await peer.expect(Reset)
        await peer.send(WasReset(request.id))
        bases.append((await peer.expect(EventsFrame)).t_base_us)
        await peer.send(replace(result(4), seq=2))
        await peer.finish()

    async with streaming(script) as stream:
        await stream.send(moving(3, start_us=EPOCH_US))
        await stream.reset()
        await stream.send(moving(4, start_us=5))
        await anext(stream)
        assert stream.start_us == 5
    assert bases == [5]
    assert len(stream.stats.latencies_ms) == 1


async def test_a_slow_consumer_gets_the_newest_results_and_a_count_of_the_others():
    async def script(peer):
        await peer.open()
        for tick in range(1, 11):
            await peer.send(result(4 * tick))
        request = await peer.expect(Flush)
        await peer.send(Flushed(request.id, 1, 10, 40, 0))
        await peer.finish()

    async with streaming(script, bounds=Bounds(results=3)) as stream:
        await stream.flush()
        assert [found.ticks for found in stream.received()] == [8, 9, 10]
        assert stream.received() == []
    assert (stream.stats.results, stream.stats.skipped_results) == (10, 7)


async def test_raw_bytes_are_forwarded_as_they_are():
    frames = []

    async def script(peer):
        assert (await peer.open()).encoding == "evt3"
        frames.append(await peer.expect(EventsFrame))
        await peer.finish()

    async with streaming(script, encoding="evt3") as stream:
        await stream.send_raw(b"\x00\x80\x01\x60")
    assert frames == [EventsFrame(1, b"\x00\x80\x01\x60")]


async def test_a_closed_stream_cannot_be_used():
    async def script(peer):
        await peer.open()
        await peer.finish()

    async with streaming(script) as stream:
        await stream.close()
        with pytest.raises(StreamClosed):
            await stream.send(moving(1))
        assert await stream.close() == FINAL


async def test_an_error_in_the_callers_code_comes_out_as_it_is():
    async def script(peer):
        await peer.open()
        await peer.socket.wait_closed()

    with pytest.raises(ZeroDivisionError):
        async with streaming(script):
            1 / 0  # noqa: B018


async def test_any_structured_array_of_events_can_be_sent():
    sent = []

    async def script(peer):
        await peer.open()
        frame = await peer.expect(EventsFrame)
        sent.append(unpack(frame.data, frame.t_base_us))
        await peer.finish()

    events = np.zeros(
        2, [("timestamp", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "?")]
    )
    events["timestamp"] = [7, 9]
    events["on"] = [True, False]
    async with streaming(script) as stream:
        await stream.send(events)
    assert sent[0]["t"].tolist() == [7, 9]
    assert sent[0]["p"].tolist() == [1, 0]

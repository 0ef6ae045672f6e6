"""The load generator's own websocket and frames, against those of real libraries."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from hypothesis import given, strategies as st
from websockets.frames import Frame as LibraryFrame, Opcode

from saccade.clients.benchmark import wire
from saccade.clients.benchmark.frames import Frames, first_events, random_events
from saccade.model.events.encodings.packed import unpack
from saccade.model.events.sensor import Sensor
from saccade.server.protocol.codec import decode_client

SENSOR = Sensor(34, 20)
PAYLOADS = st.lists(
    st.tuples(
        st.sampled_from([wire.BINARY, wire.TEXT, wire.PING, wire.CLOSE]),
        st.integers(0, 300) | st.sampled_from([125, 126, 65535, 65536, 70000]),
    ),
    max_size=6,
)


@given(payloads=PAYLOADS, cuts=st.lists(st.integers(1, 5000), max_size=40))
def test_a_librarys_frames_are_read_however_they_are_cut(payloads, cuts):
    sent = [
        wire.Frame(opcode, bytes(size if opcode < wire.CLOSE else min(size, 125)))
        for opcode, size in payloads
    ]
    stream = b"".join(
        LibraryFrame(Opcode(frame.opcode), frame.payload).serialize(mask=False)
        for frame in sent
    )
    parser, read, start = wire.FrameParser(), [], 0
    for size in [*cuts, len(stream) + 1]:
        read += parser.feed(stream[start : start + size])
        start += size
    assert read == sent


def test_a_message_in_several_frames_is_joined_around_a_ping():
    pieces = [
        LibraryFrame(Opcode.BINARY, b"ab", fin=False),
        LibraryFrame(Opcode.PING, b"!"),
        LibraryFrame(Opcode.CONT, b"cd"),
    ]
    stream = b"".join(piece.serialize(mask=False) for piece in pieces)
    read = [*wire.FrameParser().feed(stream)]
    assert read == [wire.Frame(wire.PING, b"!"), wire.Frame(wire.BINARY, b"abcd")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: other\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"x" * (1 << 17),
    ],
)
def test_an_answer_that_is_none_is_refused(answer):
    with pytest.raises(wire.BadFrame):
        wire.read_response(answer, wire.new_key())


def test_a_refused_handshake_has_its_status():
    with pytest.raises(wire.Refused) as refused:
        wire.read_response(b"HTTP/1.1 401 Unauthorized\r\n\r\nno key", "key")
    assert (refused.value.status, refused.value.body) == (401, b"no key")


def test_frames_are_what_the_server_decodes_and_time_goes_on():
    frames = Frames(random_events(SENSOR, 30), frame_events=10, rate=1e6)
    messages = [decode_client(frames.message(number)) for number in range(7)]
    assert [message.seq for message in messages] == [*range(1, 8)]
    events = [unpack(message.data, message.t_base_us) for message in messages]
    assert np.array_equal(np.concatenate(events)["t"], np.arange(70))
    assert np.array_equal(events[0]["x"], events[3]["x"])
    assert not np.array_equal(events[0]["x"], events[1]["x"])
    assert msgpack.unpackb(frames.message(2**40))["seq"] == 2**40 + 1


def test_too_few_events_for_a_frame_are_named():
    with pytest.raises(ValueError, match="there are 9 events, less than a frame of 10"):
        Frames(random_events(SENSOR, 9), frame_events=10, rate=1.0)
    assert len(first_events([random_events(SENSOR, 4)] * 3, 10)) == 10
    assert len(first_events([], 10)) == 0

"""Each kind of bad input gets its code, and everybody else goes on."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from websockets.exceptions import ConnectionClosed

from saccade.model.events.sensor import Sensor
from saccade.server.protocol.messages import (
    Close,
    ErrorMessage,
    EventsFrame,
    Flush,
    Open,
    Report,
)
from tests.toy import event_scores, some_events

OPEN = {"type": "open", "model": "toy"}
EVENTS = {"type": "events", "seq": 1, "data": b""}

FATAL = [
    ("unknown_model", 4404, [{**OPEN, "model": "none"}]),
    ("unexpected_message", 1002, [EVENTS]),
    ("unexpected_message", 1002, [OPEN, OPEN]),
    ("sequence_gap", 1002, [OPEN, {**EVENTS, "seq": 2}]),
    ("unsupported_protocol", 1002, [{**OPEN, "protocol": 99}]),
    ("sensor_mismatch", 4409, [{**OPEN, "sensor": [9, 9]}]),
    ("invalid_field", 1007, [{**OPEN, "sensor": [0, 9]}]),
    ("invalid_field", 1007, [{**OPEN, "modell": "toy"}]),
    ("malformed_message", 1007, [{"type": "dance"}]),
    ("malformed_message", 1007, [{"kind": "open"}]),
    ("malformed_message", 1007, [[1, 2, 3]]),
]


@pytest.mark.parametrize(("code", "close_code", "messages"), FATAL)
def test_what_cannot_go_on_ends_that_session_alone(
    server: Any, code: str, close_code: int, messages: list[Any]
) -> None:
    events = some_events(20)
    with server.client() as good, server.client() as bad:
        good.open()
        good.send(events[:10])
        for message in messages:
            bad.socket.send(msgpack.packb(message))
        assert bad.close_code() == close_code
        assert bad.error.code == code
        assert bad.error.fatal
        good.send(events[10:])
        assert good.finish().logits[0] == pytest.approx(event_scores(events)[-1])


@pytest.mark.parametrize(
    "data", [msgpack.packb(OPEN)[:-3], b"", b"\xc1", b"\x80\x80", "{", "null", "[NaN]"]
)
def test_what_does_not_parse_ends_the_session(server: Any, data: bytes | str) -> None:
    with server.client() as client:
        client.socket.send(data)
        assert client.close_code() == 1007
        assert client.error.code == "malformed_message"


def test_an_oversize_frame_ends_the_session(server: Any) -> None:
    with server.client() as client:
        client.open()
        client.socket.send(b"x" * ((1 << 20) + 1))
        assert client.close_code() == 1009
        assert client.error.code == "frame_too_large"


def test_a_frame_that_is_never_worth_reading_is_cut_off(server: Any) -> None:
    with server.client() as client:
        client.open()
        with suppress(ConnectionClosed):
            client.socket.send(b"x" * (5 << 20))
        with pytest.raises(ConnectionClosed):
            client.socket.recv(timeout=20)
    with server.client() as other:
        other.open()
        other.send(some_events(2))
        assert other.finish().ticks == 1


def record(t: int, x: int, y: int, p: int) -> bytes:
    return struct.pack("<II", t, p << 31 | y << 16 | x)


REFUSED = [
    ("malformed_events", b"1234567", {}),
    ("event_outside_sensor", record(9, 1, 1, 0) + record(9, 4, 1, 0),
     {"index": 1, "field": "x", "value": 4}),
    ("event_outside_sensor", record(9, 1, 700, 1), {"index": 0, "field": "y"}),
    ("unsorted_events", record(9, 1, 1, 0) + record(8, 1, 1, 0),
     {"index": 1, "value": 108}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "data", "facts"), REFUSED)
def test_a_bad_frame_is_refused_whole_and_the_session_goes_on(
    server: Any, code: str, data: bytes, facts: dict[str, Any]
) -> None:
    good = some_events(20)
    with server.client() as client:
        client.open()
        client.send(good[:9])
        client.seq += 1
        client.say(EventsFrame(client.seq, data, t_base_us=100))
        error = client.hear_until(ErrorMessage)
        assert (error.code, error.fatal, error.seq) == (code, False, 2)
        for name, value in facts.items():
            assert getattr(error, name) == value
        client.send(good[9:])
        client.finish()
        assert client.scores == pytest.approx(event_scores(good))
        assert client.acked.seq == 3
        assert client.acked.bytes == 8 * 20 + len(data)


def test_time_may_not_run_backwards_between_frames(server: Any) -> None:
    with server.client() as client:
        client.open()
        client.send(some_events(4, start_us=1000))
        client.send(some_events(4, start_us=500))
        assert client.hear_until(ErrorMessage).code == "unsorted_events"
        assert client.finish().events == 4


def test_a_flood_of_bad_frames_without_reading_is_bounded(serve: Any) -> None:
    server = serve(outbox_messages=8)
    with server.client(max_queue=1) as client:
        client.open(report=Report("flush"))
        (queue,) = server.service.connections
        for seq in range(1, 301):
            client.say(EventsFrame(seq, b"123"))
            assert len(queue) <= 20
        client.say(Flush(1))
        client.say(Close())
        assert client.close_code() == 1000
        assert len(client.of(ErrorMessage)) == 300
        assert client.acked.seq == 300


def test_refusals_are_counted_by_code(server: Any) -> None:
    counter = server.service.metrics.refused.labels("unknown_model")
    before = counter._value.get()
    with server.client() as client:
        client.say(Open("none", sensor=Sensor(4, 4)))
        client.close_code()
    assert counter._value.get() == before + 1

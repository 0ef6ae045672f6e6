from __future__ import annotations

import base64
import dataclasses
import json
import tracemalloc

import msgpack
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.sensor import Sensor
from saccade.server.protocol.codec import (
    SERVER_RECORDS,
    decode_client,
    decode_server,
    encode_client,
    encode_results,
    encode_server,
)
from saccade.server.protocol.errors import (
    FrameTooLarge,
    InvalidField,
    MalformedMessage,
    ProtocolError,
    UnsupportedProtocol,
)
from saccade.server.protocol.messages import (
    Ack,
    EventsFrame,
    Flushed,
    Open,
    Report,
    Result,
    ResultBatch,
    error_message,
)
from tests.server.protocol import strategies


@given(strategies.client_messages, st.booleans())
def test_what_a_client_encodes_decodes_to_the_same_message(message, text):
    wire = encode_client(message, text=text)
    assert isinstance(wire, str) is text
    assert decode_client(wire) == message


@given(strategies.server_messages, st.booleans())
def test_what_a_server_encodes_decodes_to_the_same_message(message, text):
    wire = encode_server(message, text=text)
    assert isinstance(wire, str) is text
    assert decode_server(wire) == message


@given(strategies.server_messages)
def test_a_message_has_the_bytes_of_a_map_of_its_fields(message):
    written = {"type": message.type, **SERVER_RECORDS[message.type].write(message)}
    assert encode_server(message, text=False) == msgpack.packb(written)


@given(st.lists(strategies.results, max_size=5), st.booleans())
def test_each_result_of_a_batch_has_the_bytes_that_it_has_alone(results, text):
    dropped = results[0].dropped if results else None
    batch = ResultBatch(
        7,
        64,
        [each.ticks % 2**40 for each in results],
        [each.t_us for each in results],
        [each.logits for each in results],
        [each.label for each in results],
        [each.confidence for each in results],
        dropped,
    )
    alone = [encode_server(message, text=text) for message in batch]
    assert encode_results(batch, text=text) == alone
    for one, message in zip(results, batch, strict=True):
        ticks = one.ticks % 2**40
        counts = {"seq": 7, "ticks": ticks, "events": 64 * ticks}
        named = {**counts, "dropped": dropped, "superseded": 0}
        assert message == dataclasses.replace(one, **named)


@given(strategies.client_messages)
def test_both_forms_hold_the_same_map(message):
    binary = msgpack.unpackb(encode_client(message))
    text = json.loads(encode_client(message, text=True))
    if "data" in text:
        text["data"] = base64.b64decode(text["data"])
    assert binary == text
    assert binary["type"] == message.type


def test_open_needs_no_more_than_a_model():
    assert decode_client('{"type":"open","model":"nmnist"}') == Open("nmnist")


@pytest.mark.parametrize("seq", ["3", "3.0", "3e0"])
def test_what_javascript_writes_for_an_integer_is_one(seq):
    text = f'{{"type":"events","seq":{seq},"t_base_us":8.0,"data":null,"events":[]}}'
    frame = decode_client(text)
    assert (frame.seq, type(frame.seq), frame.t_base_us) == (3, int, 8)


def test_null_stands_for_a_field_s_default():
    text = '{"type":"open","model":"m","fit":null,"report":null,"protocol":null}'
    assert decode_client(text) == Open("m")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("null", "not a map but null"),
        ("[1]", "not a map but an array"),
        ('{"type":"open","model":[1,2]}', "must be a string, not an array"),
    ],
)
def test_errors_name_types_as_the_wire_has_them(text, told):
    with pytest.raises(ProtocolError, match=told) as refused:
        decode_client(text)
    assert refused.value.facts().get("value") in {None, "an array of 2"}


def test_null_stands_for_the_models_own_sensor():
    text = '{"type":"open","model":"nmnist","sensor":null}'
    assert decode_client(text) == Open("nmnist")


def test_a_sensor_is_width_and_height_and_perhaps_polarities():
    text = '{{"type":"open","model":"m","sensor":{}}}'
    assert decode_client(text.format("[640,480]")).sensor == Sensor(640, 480)
    assert decode_client(text.format("[700,1,1]")).sensor == Sensor(700, 1, 1)


def refused_field(wire: str | bytes) -> str:
    with pytest.raises(InvalidField) as caught:
        decode_client(wire)
    return caught.value.field


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ('"model":7', "model"),
        ('"model":""', "model"),
        ('"model":"\\ud800"', "model"),
        ('"model":null', "model"),
        ('"sensor":[640,480]', "model"),
        ('"model":"m","protocol":true', "protocol"),
        ('"model":"m","sensor":"640x480"', "sensor"),
        ('"model":"m","sensor":[640]', "sensor"),
        ('"model":"m","sensor":[640,true]', "sensor[1]"),
        ('"model":"m","sensor":[0,480]', "sensor[0]"),
        ('"model":"m","sensor":[640,480,3]', "sensor[2]"),
        ('"model":"m","fit":"stretch"', "fit"),
        ('"model":"m","encoding":["packed"]', "encoding"),
        ('"model":"m","report":"tick"', "report"),
        ('"model":"m","report":{"every":"tik"}', "report.every"),
        ('"model":"m","report":{}', None),
        ('"model":"m","report":{"every":"ms"}', "report.n"),
        ('"model":"m","report":{"every":"ms","n":0}', "report.n"),
        ('"model":"m","report":{"every":"ms","n":1.5}', "report.n"),
        ('"model":"m","report":{"every":"tick","n":5}', "report.n"),
        ('"model":"m","report":{"every":"tick","m":5}', "report.m"),
        ('"model":"m","readout":{"window":"half_life"}', "readout.half_life_ms"),
        ('"model":"m","readout":{"half_life_ms":5}', "readout.half_life_ms"),
        ('"model":"m","readout":{"window":"half_life","half_life_ms":0}', ...),
        ('"model":"m","readout":{"window":"half_life","half_life_ms":NaN}', ...),
        ('"model":"m","readout":{"window":"half_life","half_life_ms":Infinity}', ...),
        ('"model":"m","readout":{"window":"half_life","half_life_ms":1e999}', ...),
        ('"model":"m","readout":{"window":"half_life","half_life_ms":true}', ...),
        ('"model":"m","resume":NaN', "resume"),
    ],
)
def test_each_field_of_open_is_checked_and_named(fields, named):
    wire = f'{{"type":"open",{fields}}}'
    if named is None:
        assert decode_client(wire) == Open("m")
    else:
        expected = "readout.half_life_ms" if named is ... else named
        assert refused_field(wire) == expected


def test_a_typing_error_in_a_name_is_answered_with_the_nearest_name():
    with pytest.raises(InvalidField, match="'modle' is unknown; did you mean 'model'"):
        decode_client('{"type":"open","modle":"m"}')
    with pytest.raises(MalformedMessage, match="'opne' is unknown; did you mean 'op"):
        decode_client('{"type":"opne","model":"m"}')
    with pytest.raises(InvalidField, match="did you mean 'scale'"):
        decode_client('{"type":"open","model":"m","fit":"scaled"}')


def test_another_version_is_refused_for_that_and_not_for_its_new_fields():
    with pytest.raises(UnsupportedProtocol) as caught:
        decode_client('{"type":"open","protocol":2,"models":["m"]}')
    assert caught.value.value == 2
    assert error_message(caught.value).field == "protocol"


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\xc1",
        b"\x81\xa4type",
        b"\x80",
        b"\x90",
        msgpack.packb({"type": "close"}) + b"\x00",
        msgpack.packb({"type": "close", b"type": 1}),
        msgpack.packb({"type": 5}),
        msgpack.packb({"type": "close", 1: 2}, strict_types=True),
        msgpack.packb({"type": msgpack.ExtType(4, b"open")}),
        msgpack.packb({"type": "open", "model": msgpack.Timestamp(1)}),
        b"\x82\xa4type\xa5close\xa4type\xa5close",
        b"\x81\xa4type\xa5\xff\xff\xff\xff\xff",
        b"\x81" * 100_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        "",
        "nonsense",
        "null",
        "[]",
        "NaN",
        '"open"',
        '{"type":"close"',
        '{"type":"close"} x',
        '{"type":null}',
        '{"type":"close","type":"close"}',
        '{"type":"result"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"type":' + "9" * 5000 + "}",
    ],
)
def test_what_is_no_message_at_all_is_malformed(wire):
    with pytest.raises(MalformedMessage) as caught:
        decode_client(wire)
    assert caught.value.fatal
    assert caught.value.close_code == 1007
    assert len(error_message(caught.value).message) < 700


def test_a_message_longer_than_the_limit_is_not_looked_at():
    wire = encode_client(EventsFrame(1, bytes(1000)))
    assert decode_client(wire, max_bytes=len(wire)) == EventsFrame(1, bytes(1000))
    with pytest.raises(FrameTooLarge) as caught:
        decode_client(wire, max_bytes=len(wire) - 1)
    assert (caught.value.value, caught.value.limit) == (len(wire), len(wire) - 1)


@pytest.mark.parametrize("seq", [0, -1, 2**53 + 1, True, 1.5, "1", None])
def test_a_frame_whose_seq_cannot_be_acknowledged_ends_the_session(seq):
    with pytest.raises(InvalidField) as caught:
        decode_client(msgpack.packb({"type": "events", "seq": seq, "data": b""}))
    assert caught.value.field == "seq"
    assert caught.value.fatal


@pytest.mark.parametrize(
    ("fields", "named", "size"),
    [
        ({"t_base_us": -1, "data": bytes(16)}, "t_base_us", 16),
        ({"t_base_us": 2**62 + 1, "data": bytes(16)}, "t_base_us", 16),
        ({"t_base_us": 0.5, "data": bytes(16)}, "t_base_us", 16),
        ({"t_base_us": 2.0**60, "data": bytes(16)}, "t_base_us", 16),
        ({"data": "AAAA"}, "data", 0),
        ({"data": [1, 2]}, "data", 0),
        ({}, "data", 0),
        ({"data": bytes(8), "dtype": "u4"}, "dtype", 8),
        ({"data": bytes(8), "t_base": 1}, "t_base", 8),
    ],
)
def test_any_other_bad_field_of_a_frame_refuses_that_frame_only(fields, named, size):
    with pytest.raises(InvalidField) as caught:
        decode_client(msgpack.packb({"type": "events", "seq": 4, **fields}))
    error = caught.value
    assert (error.field, error.seq, error.size) == (named, 4, size)
    assert not error.fatal


def test_a_client_understands_a_newer_server():
    newer = {"type": "ack", "seq": 1, "events": 2, "bytes": 16, "durable_seq": 0}
    assert decode_server(msgpack.packb(newer)) == Ack(1, 2, 16)


def test_a_client_refuses_what_is_no_answer():
    for wire in (b"\x80", '{"type":"ack"}', '{"type":"ack","seq":-1}', "{"):
        with pytest.raises((MalformedMessage, InvalidField)):
            decode_server(wire)


def test_scores_before_the_first_tick_are_null_and_not_absent():
    raw = json.loads(encode_server(Flushed(1, 0, 0, 0, 3), text=True))
    assert raw["logits"] is None
    assert raw["label"] is None


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("logit", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_never_leaves_the_server(text, logit):
    with pytest.raises(ValueError, match="not finite"):
        encode_server(Result(1, 1, 1, 0, [0.0, logit], "a", 0.5), text=text)


def test_decoding_a_frame_copies_its_data_once():
    wire = encode_client(EventsFrame(1, bytes(1 << 20)))
    decode_client(wire)
    tracemalloc.start()
    decode_client(wire)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.05 * (1 << 20)


def test_bytes_may_come_in_any_buffer():
    wire = encode_client(Open("m", report=Report("ms", 20)))
    assert decode_client(bytearray(wire)) == decode_client(memoryview(wire))

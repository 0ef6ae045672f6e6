from __future__ import annotations

import msgpack
import pytest

from saccade.model.events.encodings.packed import pack
from saccade.model.events.sensor import Sensor
from saccade.model.tokens import Tokenization
from saccade.server.protocol.codec import encode_client
from saccade.server.protocol.conversation import Conversation, Limits, Stage
from saccade.server.protocol.errors import (
    FrameTooLarge,
    InvalidField,
    SensorRefused,
    SequenceGap,
    UnexpectedMessage,
)
from saccade.server.protocol.messages import (
    Ack,
    EventsFrame,
    Open,
    Reset,
)
from tests.server.protocol.scripted import (
    SENSOR,
    TOKENIZATION,
    events_at,
    fed,
    frame,
    opened,
    refused,
)


def test_time_may_not_run_backwards_within_a_chunk():
    conversation = opened()
    (reply,) = conversation.receive(frame(1, 10, 30, 20))
    assert reply.message.code == "unsorted_events"
    assert (reply.message.index, reply.message.value) == (2, 20)
    assert "20 µs follows 30 µs" in reply.message.message


def test_time_may_not_run_backwards_between_chunks():
    conversation = opened()
    conversation.receive(frame(1, 10, 30))
    (reply,) = conversation.receive(frame(2, 29))
    assert reply.message.code == "unsorted_events"
    assert (reply.message.index, reply.message.value) == (0, 29)


def test_a_refused_frame_does_not_move_time():
    conversation = opened()
    conversation.receive(frame(1, 10, 30))
    assert refused(conversation, frame(2, 40, 50, 45)) == "unsorted_events"
    assert refused(conversation, frame(3, 40, 50, x=34)) == "event_outside_sensor"
    assert fed(conversation, frame(4, 30, 31)) == [30, 31]


@pytest.mark.parametrize("bits", [24, 31])
def test_a_declared_clock_counts_on_within_a_frame_and_between_frames(bits):
    conversation = opened(Open("nmnist", clock_bits=bits))
    end = 1 << bits
    assert fed(conversation, frame(1, end - 3, 2)) == [end - 3, end + 2]
    assert fed(conversation, frame(2, end - 1)) == [2 * end - 1]
    assert fed(conversation, frame(3, 0, 7)) == [2 * end, 2 * end + 7]
    conversation.receive(Reset(1))
    assert fed(conversation, frame(4, 5)) == [5]


def test_a_declared_clock_of_more_bits_than_an_offset_has_wraps_by_its_base():
    conversation = opened(Open("nmnist", clock_bits=34))
    late = EventsFrame(1, pack(events_at(2**34 - 2), 2**34 - 2), t_base_us=2**34 - 2)
    assert fed(conversation, late) == [2**34 - 2]
    assert fed(conversation, frame(2, 1)) == [2**34 + 1]


def test_a_small_step_back_of_a_declared_clock_is_refused_and_undone():
    conversation = opened(Open("nmnist", clock_bits=24))
    conversation.receive(frame(1, 2**24 - 1))
    assert refused(conversation, frame(2, 5, 4)) == "unsorted_events"
    assert fed(conversation, frame(3, 6)) == [2**24 + 6]


def test_without_a_declared_clock_a_wrap_is_time_that_runs_backwards():
    conversation = opened()
    conversation.receive(frame(1, 2**24 - 1))
    assert refused(conversation, frame(2, 0)) == "unsorted_events"


@pytest.mark.parametrize("encoding", ["evt2", "evt21", "evt3"])
def test_a_raw_encoding_declares_no_clock(encoding):
    conversation = Conversation(Limits())
    message = Open("nmnist", sensor=SENSOR, encoding=encoding, clock_bits=24)
    with pytest.raises(InvalidField) as refusal:
        conversation.receive(message)
    assert refusal.value.field == "clock_bits"


def test_an_empty_frame_does_not_move_time():
    conversation = opened()
    conversation.receive(frame(1, 10))
    assert fed(conversation, EventsFrame(2, b"", t_base_us=0)) == []
    assert fed(conversation, frame(3, 10)) == [10]


def test_reset_clears_time_and_seq_goes_on():
    conversation = opened()
    conversation.receive(frame(1, 1_000))
    assert conversation.receive(Reset(5)) == [Reset(5)]
    assert fed(conversation, frame(2, 0)) == [0]


@pytest.mark.parametrize(
    ("pixel", "field", "value", "limit"),
    [({"x": 34}, "x", 34, 34), ({"y": 99}, "y", 99, 34)],
)
def test_an_event_outside_the_sensor_is_named(pixel, field, value, limit):
    (reply,) = opened().receive(frame(1, 10, 20, **pixel))
    assert reply.message.code == "event_outside_sensor"
    assert (reply.message.index, reply.message.field) == (0, field)
    assert reply.message.value == value
    assert f"below {limit}" in reply.message.message


def test_a_polarity_that_the_model_lacks_is_outside_its_sensor():
    conversation = Conversation(Limits())
    conversation.receive(Open("shd"))
    conversation.begin(Tokenization("linear", Sensor(700, 1, 1)))
    (reply,) = conversation.receive(frame(1, 10, x=5, y=0, p=1))
    assert (reply.message.code, reply.message.field) == ("event_outside_sensor", "p")


def test_packed_data_of_a_wrong_length_refuses_the_frame():
    conversation = opened()
    assert refused(conversation, EventsFrame(1, bytes(12))) == "malformed_events"
    assert fed(conversation, frame(2, 10)) == [10]


def test_a_bad_field_refuses_the_frame_and_the_next_goes_on():
    conversation = opened()
    wire = msgpack.packb({"type": "events", "seq": 1, "t": 5, "data": bytes(16)})
    (reply,) = conversation.read(wire)
    assert reply.message.code == "invalid_field"
    assert (reply.message.field, reply.message.fatal) == ("t", False)
    assert conversation.ledger.settle(0) == Ack(1, 2, 16)
    assert fed(conversation, frame(2, 10)) == [10]


def test_a_bad_field_does_not_excuse_a_gap():
    conversation = opened()
    with pytest.raises(SequenceGap):
        conversation.read('{"type":"events","seq":2}')


def test_a_bad_frame_before_open_is_out_of_order():
    with pytest.raises(UnexpectedMessage):
        Conversation(Limits()).read('{"type":"events","seq":1}')


def test_a_frame_too_large_ends_the_session():
    conversation = opened(max_frame_bytes=80)
    assert len(fed(conversation, EventsFrame(1, bytes(80)))) == 10
    with pytest.raises(FrameTooLarge) as caught:
        conversation.receive(EventsFrame(2, bytes(88)))
    assert caught.value.close_code == 1009
    assert caught.value.seq == 2


def test_the_limit_counts_the_whole_websocket_message():
    conversation = opened(max_frame_bytes=80)
    with pytest.raises(FrameTooLarge):
        conversation.read(encode_client(EventsFrame(1, bytes(72))))


def test_a_window_holds_at_least_one_frame():
    with pytest.raises(ValueError, match="smaller than one frame"):
        Limits(max_frame_bytes=1 << 20, window_bytes=1 << 19)
    with pytest.raises(ValueError, match="smaller than one frame"):
        Limits(max_frame_bytes=1 << 20, window_events=1 << 16)


def test_another_sensor_is_refused_unless_a_fit_is_declared():
    conversation = Conversation(Limits())
    conversation.receive(Open("nmnist", sensor=Sensor(640, 480)))
    with pytest.raises(SensorRefused, match="640x480 and the model's is 34x34"):
        conversation.begin(TOKENIZATION)
    assert conversation.stage is Stage.ENDED


def test_more_polarities_than_the_models_fit_nowhere():
    conversation = Conversation(Limits())
    conversation.receive(Open("shd", sensor=Sensor(700, 1), fit="scale"))
    with pytest.raises(SensorRefused, match="700x1 of one polarity"):
        conversation.begin(Tokenization("linear", Sensor(700, 1, 1)))


def test_a_larger_sensor_is_cropped_when_declared():
    conversation = opened(Open("nmnist", sensor=Sensor(36, 36), fit="crop"))
    assert fed(conversation, frame(1, 10, x=0, y=0)) == []
    (request,) = conversation.receive(frame(2, 20, x=1, y=1))
    assert request.chunk.t_us.tolist() == [20]
    assert (
        request.chunk.tokens.tolist()
        == TOKENIZATION.tokenize(events_at(20, x=0, y=0)).tolist()
    )
    assert conversation.ledger.settle(0) == Ack(2, 2, 16)


def test_time_is_that_of_the_events_sent_not_of_those_that_a_crop_keeps():
    conversation = opened(Open("nmnist", sensor=Sensor(36, 36), fit="crop"))
    assert fed(conversation, frame(1, 10, x=0, y=0)) == []
    assert refused(conversation, frame(2, 9, x=1, y=1)) == "unsorted_events"


def test_events_are_checked_against_the_sensor_declared():
    conversation = opened(Open("nmnist", sensor=Sensor(36, 36), fit="scale"))
    assert fed(conversation, frame(1, 10, x=35, y=35)) == [10]
    assert refused(conversation, frame(2, 10, x=36)) == "event_outside_sensor"

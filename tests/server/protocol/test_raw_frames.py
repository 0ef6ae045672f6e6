from __future__ import annotations

import sys
import tracemalloc

import msgpack
import numpy as np
import pytest

from saccade.server.protocol.conversation import Conversation, Limits
from saccade.server.protocol.errors import FrameTooLarge, FrameUndecodable, InvalidField
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
    opened,
    refused,
)


def evt2(*words: int) -> bytes:
    return np.array(words, "<u4").tobytes()


def time_high(t_us: int) -> int:
    return 0x8 << 28 | t_us >> 6


def brighter(t_us: int, x: int, y: int) -> int:
    return 0x1 << 28 | (t_us & 63) << 22 | x << 11 | y


def raw() -> Conversation:
    return opened(Open("nmnist", sensor=SENSOR, encoding="evt2"))


@pytest.mark.parametrize("encoding", ["evt2", "evt21", "evt3"])
def test_a_raw_encoding_needs_its_sensor_declared(encoding):
    with pytest.raises(InvalidField) as caught:
        Conversation(Limits()).receive(Open("nmnist", encoding=encoding))
    assert caught.value.field == "sensor"
    assert caught.value.fatal


def test_one_decoder_lives_as_long_as_its_session():
    conversation = raw()
    first = EventsFrame(1, evt2(time_high(6400), brighter(6401, 3, 4)))
    second = EventsFrame(2, evt2(brighter(6402, 3, 4)))
    assert fed(conversation, first) == [6401]
    assert fed(conversation, second) == [6402]


@pytest.mark.parametrize("encoding", ["evt2", "evt21", "evt3"])
def test_a_raw_file_s_header_is_not_read_as_words(encoding):
    conversation = opened(Open("nmnist", sensor=SENSOR, encoding=encoding))
    header = b"% date 2024-01-01 12:00:00\n% evt 3.0\n% end\n" + bytes(4)
    with pytest.raises(FrameUndecodable, match="lines that begin with '%'"):
        conversation.receive(EventsFrame(1, header))


def test_a_word_may_begin_as_a_header_does():
    conversation = raw()
    words = evt2(time_high(ord("%") << 6), *[brighter(6402, 3, 4)] * 8)
    assert words.startswith(b"%")
    assert len(fed(conversation, EventsFrame(1, words))) == 8


def test_raw_frames_count_the_events_decoded():
    conversation = raw()
    words = (time_high(6400), *(brighter(6401, 3, 4),) * 3)
    conversation.receive(EventsFrame(1, evt2(*words)))
    assert conversation.ledger.settle(0) == Ack(1, 3, 16)


def test_a_raw_frame_out_of_order_is_refused_and_the_session_goes_on():
    conversation = raw()
    now, before = time_high(64_000), time_high(6_400)
    conversation.receive(EventsFrame(1, evt2(now, brighter(64_001, 3, 4))))
    late = EventsFrame(2, evt2(before, brighter(6_401, 3, 4), now))
    assert refused(conversation, late) == "unsorted_events"
    assert fed(conversation, EventsFrame(3, evt2(brighter(64_002, 3, 4)))) == [64_002]
    assert conversation.ledger.settle(0) == Ack(3, 3, 24)


def test_raw_events_outside_the_sensor_are_refused_and_the_session_goes_on():
    conversation = raw()
    words = evt2(time_high(6400), brighter(6401, 34, 4))
    assert refused(conversation, EventsFrame(1, words)) == "event_outside_sensor"
    assert fed(conversation, EventsFrame(2, evt2(brighter(6402, 3, 4)))) == [6402]
    assert conversation.ledger.settle(0) == Ack(2, 2, 12)


def test_evt3_goes_on_where_the_last_frame_stopped():
    conversation = opened(Open("nmnist", sensor=SENSOR, encoding="evt3"))
    words = np.array([0x8001, 0x6010, 0x0004, 0x2803], "<u2").tobytes()
    assert fed(conversation, EventsFrame(1, words[:6])) == []
    (request,) = conversation.receive(EventsFrame(2, words[6:]))
    assert request.chunk.t_us.tolist() == [4096 + 16]
    assert (
        request.chunk.tokens.tolist()
        == TOKENIZATION.tokenize(events_at(0, x=3, y=4)).tolist()
    )
    assert conversation.ledger.settle(0) == Ack(2, 1, 8)


def test_a_raw_encoding_that_is_not_served_here_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "evt3", None)
    conversation = Conversation(Limits())
    conversation.receive(Open("nmnist", sensor=SENSOR, encoding="evt3"))
    with pytest.raises(InvalidField) as caught:
        conversation.begin(TOKENIZATION)
    assert caught.value.field == "encoding"


def test_raw_data_that_does_not_decode_ends_the_session():
    with pytest.raises(FrameUndecodable) as caught:
        raw().receive(EventsFrame(1, bytes(5)))
    assert caught.value.close_code == 1007


def test_a_raw_frame_has_no_time_base():
    with pytest.raises(InvalidField) as caught:
        raw().receive(EventsFrame(1, evt2(time_high(0)), t_base_us=5))
    assert caught.value.field == "t_base_us"


def test_a_bad_field_in_a_raw_frame_ends_the_session():
    wire = msgpack.packb({"type": "events", "seq": 1, "t": 5, "data": bytes(16)})
    with pytest.raises(InvalidField) as caught:
        raw().read(wire)
    assert caught.value.fatal


def test_listed_events_in_a_raw_session_end_it():
    with pytest.raises(InvalidField) as caught:
        raw().read('{"type":"events","seq":1,"events":[[0,1,1,1]]}')
    assert caught.value.field == "events"


def test_a_raw_frame_may_not_unfold_into_more_than_a_window():
    conversation = opened(
        Open("nmnist", sensor=SENSOR, encoding="evt2"),
        max_frame_bytes=64,
        window_events=8,
        window_bytes=64,
    )
    words = (time_high(6400), *(brighter(6401, 3, 4),) * 9)
    with pytest.raises(FrameTooLarge, match="9 events exceeds the limit of 8"):
        conversation.receive(EventsFrame(1, evt2(*words)))


@pytest.mark.parametrize(
    ("encoding", "word", "data", "events"),
    [
        ("evt2", "<u4", 0x1000_0000, 1 << 18),
        ("evt3", "<u2", 0x4FFF, 12 << 19),
        ("evt21", "<u8", 0x1000_0000_FFFF_FFFF, 32 << 17),
        ("evt21-legacy", "<u8", 0xFFFF_FFFF_1000_0000, 32 << 17),
    ],
)
def test_a_raw_frame_that_unfolds_too_far_is_refused_before_it_takes_the_memory(
    encoding, word, data, events
):
    limits = {"window_events": 1 << 17, "window_bytes": 1 << 20}
    conversation = opened(Open("nmnist", sensor=SENSOR, encoding=encoding), **limits)
    words = np.full((1 << 20) // np.dtype(word).itemsize, data, word).tobytes()
    tracemalloc.start()
    try:
        with pytest.raises(FrameTooLarge, match=f"{events} events"):
            conversation.receive(EventsFrame(1, words))
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < 24 << 20  # decoded, the largest takes 200 MiB


def test_reset_begins_a_new_decoder():
    conversation = raw()
    conversation.receive(EventsFrame(1, evt2(time_high(1 << 20), brighter(0, 3, 4))))
    conversation.receive(Reset(1))
    early = EventsFrame(2, evt2(time_high(6400), brighter(6401, 3, 4)))
    assert fed(conversation, early) == [6401]

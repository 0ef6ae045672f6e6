"""Events outside the sensor or out of order, where the client has them skipped;
and timestamps far in the future, whatever it chose."""

from __future__ import annotations

import pytest

from saccade.model.events.encodings.packed import pack
from saccade.server.protocol.conversation import Conversation, Limits
from saccade.server.protocol.messages import Ack, EventsFrame, Open, Reset
from tests.server.protocol.scripted import (
    SENSOR,
    TOKENIZATION,
    events_at,
    fed,
    frame,
    opened,
    refused,
)
from tests.server.protocol.test_raw_frames import brighter, evt2, time_high

FAR = 2**40


def skipping(**fields: object) -> Conversation:
    return opened(Open("nmnist", invalid="skip", **fields))  # type: ignore[arg-type]


def with_strays(seq: int) -> EventsFrame:
    events = events_at(10, 20, 15, 30, 40)
    events["x"][3] = 40
    return EventsFrame(seq, pack(events, 0))


def test_a_stray_event_costs_itself_and_is_counted():
    conversation = skipping()
    assert fed(conversation, with_strays(1)) == [10, 20, 40]
    assert conversation.ledger.settle(0) == Ack(1, 5, 40, skipped=2)
    assert conversation.skipped == 2
    assert fed(conversation, frame(2, 39, 41)) == [41]
    assert conversation.ledger.settle(0) == Ack(2, 7, 56, skipped=3)


def test_after_a_reset_the_count_begins_anew_but_that_of_the_acks_goes_on():
    conversation = skipping()
    fed(conversation, with_strays(1))
    conversation.receive(Reset(1))
    assert conversation.skipped == 0
    assert fed(conversation, frame(2, 5)) == [5]
    assert conversation.ledger.settle(0) == Ack(2, 6, 48, skipped=2)


def test_raw_words_are_skipped_alike():
    conversation = skipping(encoding="evt2", sensor=SENSOR)
    words = [brighter(6401, 3, 4), brighter(6402, 40, 4), brighter(6403, 3, 4)]
    assert fed(conversation, EventsFrame(1, evt2(time_high(6400), *words))) == [
        6401,
        6403,
    ]
    assert conversation.skipped == 1


def test_a_frame_that_does_not_decode_is_refused_nevertheless():
    assert refused(skipping(), EventsFrame(1, b"123")) == "malformed_events"


def test_without_the_choice_nothing_is_skipped_and_nothing_said_of_it():
    conversation = opened()
    assert refused(conversation, with_strays(1)) == "event_outside_sensor"
    assert conversation.skipped is None
    assert conversation.ledger.settle(0) == Ack(1, 5, 40)


def test_a_session_that_comes_back_goes_on_counting():
    first = skipping()
    fed(first, with_strays(1))
    second = Conversation(Limits())
    second.receive(Open("nmnist", invalid="skip", resume="token"))
    second.resume(TOKENIZATION, first.export_state())
    assert fed(second, frame(2, 39, 41)) == [41]
    assert second.skipped == 3
    assert second.ledger.ack().skipped == 3


@pytest.mark.parametrize("invalid", ["reject", "skip"])
def test_one_far_timestamp_does_not_poison_a_session(invalid):
    conversation = opened(Open("nmnist", invalid=invalid))
    assert fed(conversation, frame(1, 10, 20)) == [10, 20]
    far = EventsFrame(2, pack(events_at(FAR), FAR), t_base_us=FAR)
    assert fed(conversation, far) == [FAR]
    assert fed(conversation, frame(3, 30, 40)) == [30, 40]
    assert fed(conversation, frame(4, 50)) == [50]


def test_a_pause_is_no_fault():
    conversation = opened()
    fed(conversation, frame(1, 10))
    for seq in (2, 3):
        late = EventsFrame(seq, pack(events_at(FAR + seq), FAR), t_base_us=FAR)
        assert fed(conversation, late) == [FAR + seq]
    assert refused(conversation, frame(4, 30)) == "unsorted_events"

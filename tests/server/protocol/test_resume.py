"""A conversation goes on where another one stopped."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.server.protocol.conversation import Conversation, Limits, Repeat
from saccade.server.protocol.errors import SequenceGap
from saccade.server.protocol.messages import Ack, EventsFrame, Open
from tests.server.protocol.scripted import (
    SENSOR,
    TOKENIZATION,
    fed,
    frame,
    opened,
    refused,
)


def resumed(first: Conversation, opening: Open | None = None) -> Conversation:
    conversation = Conversation(Limits())
    conversation.receive(opening or Open("nmnist", resume="token"))
    conversation.resume(TOKENIZATION, first.export_state())
    return conversation


def test_a_frame_that_is_known_is_repeated_and_read_once():
    first = opened()
    fed(first, frame(1, 10, 20))
    second = resumed(first)
    assert second.receive(frame(1, 10, 20)) == [Repeat()]
    assert fed(second, frame(2, 30)) == [30]
    assert second.receive(frame(2, 30)) == [Repeat()]
    assert second.ledger.sent.events == 3


def test_a_known_frame_is_a_repeat_even_where_it_was_refused():
    first = opened()
    assert refused(first, frame(1, 20, 10)) == "unsorted_events"
    assert resumed(first).receive(frame(1, 20, 10)) == [Repeat()]


def test_a_session_that_came_back_has_no_gaps_either():
    first = opened()
    fed(first, frame(1, 10))
    with pytest.raises(SequenceGap):
        resumed(first).receive(frame(3, 20))


def test_time_goes_on_from_the_last_frame():
    first = opened()
    fed(first, frame(1, 500))
    assert refused(resumed(first), frame(2, 499)) == "unsorted_events"


def test_what_was_under_way_is_acknowledged_in_one():
    first = opened()
    for seq in (1, 2, 3):
        fed(first, frame(seq, 10 * seq))
    first.ledger.settle(2)
    second = resumed(first)
    assert second.ledger.settle(2) == Ack(1, 1, 8, durable_seq=3)
    assert second.ledger.settle(0) == Ack(3, 3, 24, durable_seq=3)
    fed(second, frame(4, 50))
    assert second.ledger.settle(0) == Ack(4, 4, 32, durable_seq=3)


@pytest.mark.parametrize("encoding", ["evt2", "evt21", "evt3"])
def test_a_raw_decoder_goes_on_between_two_words(encoding):
    high, low, event = (0x8001, 0x6005, 0x2003)
    words = [np.array([high, low], "<u2"), np.array([event], "<u2")]
    if encoding == "evt2":
        words = [np.array([0x8 << 28 | 1], "<u4"), np.array([5 << 22], "<u4")]
    if encoding == "evt21":
        words = [np.array([0x8 << 60 | 1 << 32], "<u8"), np.array([5 << 54 | 1], "<u8")]
    opening = Open("nmnist", sensor=SENSOR, encoding=encoding)
    first = opened(opening)
    assert fed(first, EventsFrame(1, words[0].tobytes())) == []
    second = resumed(first, opening)
    expected = 4096 + 5 if encoding == "evt3" else 64 + 5
    assert fed(second, EventsFrame(2, words[1].tobytes())) == [expected]

from __future__ import annotations

import json

import pytest

from saccade.server.protocol.codec import decode_server, encode_client
from saccade.server.protocol.conversation import Conversation, Limits, Stage
from saccade.server.protocol.errors import (
    InvalidField,
    MalformedMessage,
    ProtocolError,
    SequenceGap,
    UnexpectedMessage,
    UnsupportedProtocol,
)
from saccade.server.protocol.messages import (
    Close,
    Flush,
    Open,
    Reset,
    WasReset,
)
from tests.server.protocol.scripted import (
    TOKENIZATION,
    fed,
    frame,
    opened,
)


def test_a_session_opens_takes_events_and_closes():
    conversation = Conversation(Limits())
    assert conversation.receive(Open("nmnist")) == [Open("nmnist")]
    conversation.begin(TOKENIZATION)
    assert fed(conversation, frame(1, 10, 20)) == [10, 20]
    assert fed(conversation, frame(2, 20)) == [20]
    assert conversation.receive(Flush(7)) == [Flush(7)]
    assert conversation.receive(Close()) == [Close()]
    assert conversation.stage is Stage.ENDED


@pytest.mark.parametrize("message", [frame(1), Flush(1), Reset(1), Close()])
def test_a_session_begins_with_open(message):
    conversation = Conversation(Limits())
    with pytest.raises(UnexpectedMessage, match="begins with 'open'"):
        conversation.receive(message)


def test_events_wait_for_opened():
    conversation = Conversation(Limits())
    conversation.receive(Open("nmnist"))
    with pytest.raises(UnexpectedMessage, match="wait for 'opened'"):
        conversation.receive(frame(1, 10))


def test_a_session_opens_once():
    with pytest.raises(UnexpectedMessage, match="open already"):
        opened().receive(Open("nmnist"))


@pytest.mark.parametrize("message", [frame(1), Flush(1), Close(), Open("nmnist")])
def test_nothing_comes_after_close(message):
    conversation = opened()
    conversation.receive(Close())
    with pytest.raises(UnexpectedMessage, match="has ended"):
        conversation.receive(message)


def test_nothing_comes_after_a_fatal_error():
    conversation = opened()
    with pytest.raises(SequenceGap):
        conversation.receive(frame(2, 10))
    with pytest.raises(UnexpectedMessage, match="has ended"):
        conversation.receive(frame(1, 10))


@pytest.mark.parametrize("seq", [1, 2, 4, 2**53])
def test_seq_is_the_last_one_plus_one(seq):
    conversation = opened()
    for number in (1, 2):
        conversation.receive(frame(number, 10))
    with pytest.raises(SequenceGap) as caught:
        conversation.receive(frame(seq, 10))
    assert (caught.value.seq, caught.value.expected) == (seq, 3)


def test_seq_begins_at_one():
    with pytest.raises(SequenceGap):
        opened().receive(frame(2, 10))


def test_answers_come_in_the_form_that_opened():
    for text in (False, True):
        conversation = Conversation(Limits())
        conversation.read(encode_client(Open("nmnist"), text=text))
        conversation.begin(TOKENIZATION)
        conversation.read(encode_client(frame(1, 10), text=not text))
        wire = conversation.write(WasReset(3))
        assert isinstance(wire, str) is text
        assert decode_server(wire) == WasReset(3)


def test_even_the_first_error_comes_in_the_clients_form():
    conversation = Conversation(Limits())
    with pytest.raises(MalformedMessage):
        conversation.read("hello?")
    assert json.loads(conversation.write(WasReset(1))) == {"type": "reset", "id": 1}


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (b"\x81", MalformedMessage),
        ('{"type":"open"}', InvalidField),
        ('{"type":"open","model":"m","protocol":3}', UnsupportedProtocol),
        ('{"type":"flush"}', InvalidField),
    ],
)
def test_what_cannot_be_read_ends_the_session(wire, error):
    conversation = Conversation(Limits())
    with pytest.raises(error):
        conversation.read(wire)
    assert conversation.stage is Stage.ENDED


def test_every_fatal_error_has_a_close_code_that_a_websocket_may_send():
    for leaf in ProtocolError.__subclasses__():
        assert leaf.close_code in {1002, 1007, 1009, 1011, 1013} or (
            4000 <= leaf.close_code < 5000
        )

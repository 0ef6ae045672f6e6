"""On any input a session ends with a typed error or goes on as before."""

from __future__ import annotations

import json

import msgpack
import numpy as np
from hypothesis import example, given, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from saccade.model.events.encodings.packed import pack
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE
from saccade.model.tokens import Tokenization
from saccade.server.protocol.codec import decode_client, decode_server, encode_client
from saccade.server.protocol.conversation import Conversation, Feed, Limits, Reply
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.ledger import Counts
from saccade.server.protocol.messages import (
    EventsFrame,
    Flush,
    Open,
    Reset,
    error_message,
)
from tests.server.protocol import strategies

SENSOR = Sensor(8, 8)
TOKENIZATION = Tokenization("linear", SENSOR)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=12),
)
values = st.recursive(
    scalars | st.binary(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
names = st.sampled_from(
    [
        *("type", "protocol", "model", "sensor", "fit", "encoding", "report"),
        *("readout", "seq", "t_base_us", "data", "events", "id"),
    ]
)
maps = st.fixed_dictionaries(
    {"type": st.sampled_from(["open", "events", "flush", "reset", "close"])},
).flatmap(lambda kind: st.dictionaries(names, values, max_size=5).map(kind.__or__))


def decoded_or_refused(wire: bytes | str) -> None:
    """Decode; anything but a ProtocolError fails the test."""
    for decode in (decode_client, decode_server):
        try:
            decode(wire)
        except ProtocolError as error:
            sent = error_message(error)
            assert len(sent.message) <= 600
            assert decode_server(msgpack.packb(as_map(sent))) == sent


def as_map(message) -> dict:
    given = {name: getattr(message, name) for name in message.__slots__}
    return {"type": "error", **given}


@given(st.binary(max_size=200))
@example(b"\x81\xc7\x00\xff\xc0")
@example(b"\x81\xa4type\xd6\xff\x00\x00\x00\x00")
def test_arbitrary_bytes_raise_nothing_but_a_protocol_error(wire):
    decoded_or_refused(wire)


@given(st.text(max_size=200))
@example('{"type":"events","seq":1,"data":"\\udcff"}')
@example('{"type":"\\ud800"}')
@example('{"type":"open","\\ud800":1,"model":"m"}')
@example('{"type":"open","model":"m","fit":"\\ud800"}')
def test_arbitrary_text_raises_nothing_but_a_protocol_error(wire):
    decoded_or_refused(wire)


def test_a_field_without_a_name_is_reported_in_a_message_that_can_be_read():
    decoded_or_refused(msgpack.packb({"type": "open", "model": "m", "": 1}))


@given(maps)
def test_maps_of_the_right_names_and_wrong_values_raise_nothing_else(raw):
    decoded_or_refused(msgpack.packb(raw))


@given(maps)
def test_objects_of_the_right_names_and_wrong_values_raise_nothing_else(raw):
    decoded_or_refused(json.dumps(raw, default=repr))


@st.composite
def mutated(draw, whole):
    """Flip, insert and cut, at most four times."""
    wire = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(wire) - 1)))
        match draw(st.sampled_from(["flip", "insert", "cut", "truncate"])):
            case "flip" if wire:
                wire[at] ^= draw(st.integers(1, 255))
            case "insert":
                wire[at:at] = draw(st.binary(min_size=1, max_size=5))
            case "cut":
                del wire[at : at + draw(st.integers(1, 5))]
            case _:
                del wire[at:]
    return bytes(wire)


@given(mutated(strategies.client_messages.map(strategies.encoded)))
@settings(max_examples=300)
def test_damaged_messages_raise_nothing_but_a_protocol_error(wire):
    decoded_or_refused(wire)


@given(
    mutated(
        strategies.client_messages.map(
            lambda message: strategies.encoded(message, text=True).encode()
        )
    )
)
@settings(max_examples=300)
def test_damaged_texts_raise_nothing_but_a_protocol_error(wire):
    decoded_or_refused(wire.decode("utf-8", "replace"))


@given(
    st.lists(
        st.one_of(
            strategies.client_messages.map(strategies.encoded),
            mutated(strategies.client_messages.map(strategies.encoded)),
            st.builds(EventsFrame, st.integers(1, 4), st.binary(max_size=40)).map(
                encode_client
            ),
        ),
        max_size=6,
    ),
    st.sampled_from(["packed", "evt2", "evt21", "evt3"]),
)
def test_any_conversation_ends_with_a_typed_error_or_goes_on(wires, encoding):
    conversation = Conversation(Limits())
    conversation.receive(Open("m", sensor=SENSOR, encoding=encoding))
    conversation.begin(TOKENIZATION)
    for wire in wires:
        refusal = None
        try:
            conversation.read(wire)
        except ProtocolError as error:
            refusal = error
        if refusal is not None:
            assert refusal.fatal
            break


class Session(RuleBasedStateMachine):
    """Good and bad frames in any order, against a model of what must remain."""

    def __init__(self) -> None:
        super().__init__()
        self.conversation = Conversation(Limits())
        self.conversation.receive(Open("m"))
        self.conversation.begin(TOKENIZATION)
        self.now_us = 0
        self.seq = 0
        self.counts = Counts()
        self.kept = 0
        self.consumed = 0

    def send(self, data: bytes, t_base_us: int = 0) -> Feed | Reply:
        self.seq += 1
        self.counts = Counts(
            self.seq,
            self.counts.events + len(data) // 8,
            self.counts.bytes + len(data),
        )
        frame = EventsFrame(self.seq, data, t_base_us=t_base_us)
        (request,) = self.conversation.read(encode_client(frame))
        assert isinstance(request, (Feed, Reply))
        return request

    def refused(self, code: str, request: Feed | Reply) -> None:
        assert isinstance(request, Reply)
        assert (request.message.code, request.message.seq) == (code, self.seq)
        assert not request.message.fatal

    @rule(
        gaps=st.lists(st.integers(0, 1000), max_size=20),
        base=st.integers(0, 1000),
    )
    def good_frame(self, gaps: list[int], base: int) -> None:
        t_us = self.now_us + np.cumsum(np.array(gaps, np.int64))
        events = np.zeros(len(gaps), EVENT_DTYPE)
        events["t"] = t_us
        base = max(0, self.now_us - base)
        request = self.send(pack(events, base), base)
        assert isinstance(request, Feed)
        assert request.chunk.t_us.tolist() == t_us.tolist()
        self.now_us = int(t_us[-1]) if gaps else self.now_us
        self.kept += len(gaps)

    @rule(good=st.integers(0, 5), field=st.sampled_from(["x", "y"]))
    def event_outside(self, good: int, field: str) -> None:
        events = np.zeros(good + 1, EVENT_DTYPE)
        events["t"] = self.now_us + 10**6
        events[field][good] = 8
        request = self.send(pack(events, 0))
        self.refused("event_outside_sensor", request)
        assert isinstance(request, Reply)
        assert (request.message.index, request.message.field) == (good, field)

    @rule(good=st.integers(1, 5))
    def backwards_within(self, good: int) -> None:
        events = np.zeros(good + 1, EVENT_DTYPE)
        events["t"] = self.now_us + 10**6
        events["t"][good] -= 1
        self.refused("unsorted_events", self.send(pack(events, 0)))

    @precondition(lambda self: self.now_us > 0)
    @rule()
    def backwards_between(self) -> None:
        events = np.zeros(1, EVENT_DTYPE)
        events["t"] = self.now_us - 1
        self.refused("unsorted_events", self.send(pack(events, 0)))

    @rule(size=st.integers(0, 50).filter(lambda size: size % 8))
    def wrong_length(self, size: int) -> None:
        self.refused("malformed_events", self.send(bytes(size)))

    @rule()
    def bad_time_base(self) -> None:
        self.refused("invalid_field", self.send(bytes(16), t_base_us=-1))

    @rule()
    def flush(self) -> None:
        assert self.conversation.receive(Flush(1)) == [Flush(1)]

    @rule()
    def reset(self) -> None:
        assert self.conversation.receive(Reset(1)) == [Reset(1)]
        self.now_us = 0

    @rule(share=st.floats(0, 1))
    def consume(self, share: float) -> None:
        self.consumed += int(share * (self.kept - self.consumed))
        ack = self.conversation.ledger.settle(self.kept - self.consumed)
        assert ack is None or Counts(*self._fields(ack)) == (
            self.conversation.ledger.acked
        )

    @staticmethod
    def _fields(ack) -> tuple[int, int, int]:
        return ack.seq, ack.events, ack.bytes

    @invariant()
    def acknowledged_and_pending_are_what_was_sent(self) -> None:
        ledger = self.conversation.ledger
        assert ledger.sent == self.counts
        total = (a + p for a, p in zip(ledger.acked, ledger.pending, strict=True))
        assert Counts(*total) == self.counts

    def teardown(self) -> None:
        self.conversation.ledger.settle(0)
        assert self.conversation.ledger.acked == self.counts


TestARefusedFrameLeavesTheSessionAsBefore = Session.TestCase
TestARefusedFrameLeavesTheSessionAsBefore.settings = settings(
    max_examples=60, stateful_step_count=25
)

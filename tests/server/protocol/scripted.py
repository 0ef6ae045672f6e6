"""Short calls for a scripted conversation: open, send a frame, check the outcome."""

from __future__ import annotations

import numpy as np

from saccade.model.events.encodings.packed import pack
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.tokens import Tokenization
from saccade.server.protocol.conversation import Conversation, Feed, Limits, Reply
from saccade.server.protocol.messages import EventsFrame, Open

SENSOR = Sensor(34, 34)
TOKENIZATION = Tokenization("linear", SENSOR)


def events_at(*t_us: int, x: int = 1, y: int = 2, p: int = 1) -> Events:
    return np.array([(t, x, y, p) for t in t_us], EVENT_DTYPE)


def frame(seq: int, *t_us: int, **pixel: int) -> EventsFrame:
    return EventsFrame(seq, pack(events_at(*t_us, **pixel), 0))


def opened(message: Open | None = None, **limits: int) -> Conversation:
    conversation = Conversation(Limits(**limits))
    conversation.receive(message or Open("nmnist"))
    conversation.begin(TOKENIZATION)
    return conversation


def fed(conversation: Conversation, message: EventsFrame) -> list[int]:
    (request,) = conversation.receive(message)
    assert isinstance(request, Feed)
    return request.chunk.t_us.tolist()


def refused(conversation: Conversation, message: EventsFrame) -> str:
    (request,) = conversation.receive(message)
    assert isinstance(request, Reply)
    assert not request.message.fatal
    assert request.message.seq == message.seq
    return request.message.code

"""A client's end of a session, without a socket: what it says and what it hears."""

from __future__ import annotations

from typing import Any

from saccade.model.events.encodings.packed import pack
from saccade.model.events.types import Events
from saccade.server.protocol.conversation import Conversation, Feed
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import EventsFrame, ServerMessage
from saccade.server.sessions.session import Session


class Hearer:
    """A carrier that remembers what it is given."""

    def __init__(self) -> None:
        self.messages: list[ServerMessage] = []
        self.errors: list[ProtocolError] = []

    def put(self, message: ServerMessage) -> None:
        self.messages.append(message)

    def fail(self, error: ProtocolError) -> None:
        self.errors.append(error)

    def progressed(self) -> None:
        pass

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]


def say(conversation: Conversation, session: Session, seq: int, events: Events) -> None:
    """Bring a frame of events to a session, as the websocket would."""
    base = int(events["t"][0]) if len(events) else 0
    frame = EventsFrame(seq, pack(events, base), t_base_us=base)
    for request in conversation.receive(frame):
        assert isinstance(request, Feed)
        session.feed(request.events, request.size)

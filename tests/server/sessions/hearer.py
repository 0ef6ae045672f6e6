"""A client's end of a session, without a socket: what it says and what it hears."""

from __future__ import annotations

from typing import Any

from model.events.packed import pack
from model.events.types import Events
from server.protocol.conversation import Conversation
from server.protocol.errors import ProtocolError
from server.protocol.messages import EventsFrame, ServerMessage
from server.protocol.requests import Feed
from server.sessions.session import Session


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
    frame = EventsFrame(seq, pack(events, base), base)
    for request in conversation.receive(frame):
        assert isinstance(request, Feed)
        session.feed(request.events, request.size)

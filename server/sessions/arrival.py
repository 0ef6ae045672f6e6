"""A client that opens a session or comes back to one, and whether it may."""

from __future__ import annotations

from dataclasses import fields
from hashlib import sha256
from typing import Final, NamedTuple

from saccade.server.engine.models import ServedModel
from saccade.server.protocol.errors import InvalidField
from saccade.server.protocol.messages import Open
from saccade.server.protocol.resume_errors import ModelChanged, UnknownSession
from saccade.server.sessions.carrier import Carrier
from saccade.server.sessions.snapshots import Snapshot

CHOICES: Final = tuple(
    field.name for field in fields(Open) if field.name not in {"protocol", "resume"}
)
"""What a client that comes back must ask for as it did at first."""


class Arrival(NamedTuple):
    """A client that opens a session, or comes back to one.

    Attributes:
        opening: What it asks for.
        model: The model that it asks for.
        carrier: Where it hears.
        holder: Whose key it showed; empty where there are none.
    """

    opening: Open
    model: ServedModel
    carrier: Carrier
    holder: str = ""


def key_of(token: str) -> str:
    """Return what stands for a token in the store, so that none leaks from there."""
    return sha256(token.encode()).hexdigest()


def check(snapshot: Snapshot, arrival: Arrival, model: ServedModel) -> None:
    """Refuse to go on with a session otherwise than it began, or for somebody else.

    Raises:
        ProtocolError: It is somebody else's, another version's, or was opened
            otherwise.
    """
    first, opening = snapshot.opening, arrival.opening
    if snapshot.holder != arrival.holder:
        raise UnknownSession
    if opening.model == first.model and snapshot.model_hash != model.content_hash:
        raise ModelChanged(model.name, snapshot.model_hash, model.content_hash)
    for field in CHOICES:
        if getattr(first, field) != getattr(opening, field):
            raise InvalidField(field, "is not what the session was opened with")

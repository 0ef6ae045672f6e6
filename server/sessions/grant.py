"""What a client is told when its session begins, and what it may come back with."""

from __future__ import annotations

from typing import NamedTuple

from saccade.server.engine.models import ServedModel
from saccade.server.protocol.conversation import Conversation
from saccade.server.protocol.messages import Opened


class Grant(NamedTuple):
    """What a client is given to come back with.

    Attributes:
        session: The session's name.
        token: What to say on coming back; None where nothing is kept.
        ttl_ms: For how long that is possible after a connection was lost.
        resumed: Whether the client has just come back.
        holder: Whose key the client showed; empty where there are none.
    """

    session: str
    token: str | None = None
    ttl_ms: int = 0
    resumed: bool = False
    holder: str = ""


def opened(grant: Grant, model: ServedModel, conversation: Conversation) -> Opened:
    """Write the message that begins a session, or goes on with one."""
    limits = conversation.limits
    return Opened(
        session=grant.session,
        model=model.name,
        model_hash=model.content_hash,
        labels=list(model.labels),
        sensor=model.sensor,
        tick_events=model.tick_events,
        window_events=limits.window_events,
        window_bytes=limits.window_bytes,
        max_frame_bytes=limits.max_frame_bytes,
        resume=grant.token,
        resume_ttl_ms=grant.ttl_ms,
        resumed=grant.resumed,
        seq=conversation.ledger.sent.seq,
    )

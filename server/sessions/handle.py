"""What a session has of its client: its name and token, and the way to the client."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from saccade.server.engine.model_registry import ServedModel
from saccade.server.logs import ClientFacts
from saccade.server.protocol.conversation import Conversation
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import Opened, ResultBatch, ServerMessage


class MessageSink(Protocol):
    """The connection to one client, as its session uses it."""

    def put(self, message: ServerMessage) -> None:
        """Queue a message for the client."""

    def put_results(self, results: ResultBatch) -> None:
        """Queue consecutive results, the oldest first."""

    def fail(self, error: ProtocolError) -> None:
        """Send the error that ends the session here."""

    def progressed(self) -> None:
        """Check again what waits for the session: ticks were scored."""


class SessionHandle(NamedTuple):
    """A session's name, and the token that its client may resume it with.

    Attributes:
        session: The session's name.
        token: The resume token; None where no snapshots are kept.
        ttl_ms: For how long the token is good after a connection was lost.
        resumed: Whether the client has just come back.
        holder: Holder of the client's API key; empty where there are no keys.
        replica: The server's name in its fleet; None where it is alone.
    """

    session: str
    token: str | None = None
    ttl_ms: int = 0
    resumed: bool = False
    holder: str = ""
    replica: str | None = None

    @property
    def client_facts(self) -> ClientFacts:
        """The client as the log names it."""
        return ClientFacts(self.holder, self.session)


def opened(
    handle: SessionHandle, model: ServedModel, conversation: Conversation
) -> Opened:
    """Return the message that begins a session, or continues one."""
    limits = conversation.limits
    return Opened(
        session=handle.session,
        model=model.name,
        model_hash=model.content_hash,
        labels=list(model.labels),
        sensor=model.sensor,
        tick_events=model.tick_events,
        window_events=limits.window_events,
        window_bytes=limits.window_bytes,
        max_frame_bytes=limits.max_frame_bytes,
        resume=handle.token,
        resume_ttl_ms=handle.ttl_ms,
        resumed=handle.resumed,
        seq=conversation.ledger.sent.seq,
        replica=handle.replica,
    )

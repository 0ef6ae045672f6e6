"""Who takes a session's messages to its client."""

from __future__ import annotations

from typing import Protocol

from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import ServerMessage


class Carrier(Protocol):
    """One client, as its session sees it."""

    def put(self, message: ServerMessage) -> None:
        """Take a message."""

    def fail(self, error: ProtocolError) -> None:
        """Take the error that ends the session here."""

    def progressed(self) -> None:
        """Learn that ticks were scored."""

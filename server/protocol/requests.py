"""What a conversation asks its caller to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from saccade.model.events.types import Events
from saccade.server.protocol.messages import Close, ErrorMessage, Flush, Open, Reset


@dataclass(frozen=True, slots=True)
class Feed:
    """Events for the engine: decoded, checked, fitted; perhaps none.

    `size` is the bytes of `data` that they came in.
    """

    events: Events
    size: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A message to send at once."""

    message: ErrorMessage


@dataclass(frozen=True, slots=True)
class Repeat:
    """A frame that a resumed session knows already: to be acknowledged again."""


Request: TypeAlias = Open | Feed | Flush | Reset | Close | Reply | Repeat
"""What the caller must do, in order. `Open` asks it to find the model, call
`begin` and send `Opened`; the others, once done, are answered by their messages."""

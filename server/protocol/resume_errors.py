"""Why a session and its client part, and what can go wrong when it comes back.

ProtocolError
├── UnknownSession          unknown_session        4404
├── ModelChanged            model_changed          4409
├── TakenOver               taken_over             4410
├── SessionIdle             session_idle           4408
└── SessionDeleted          session_deleted        4404
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.quoting import clip


@dataclass(eq=False)
class UnknownSession(ProtocolError):
    """No session has this token: it never had, or it ended, or its time ran out."""

    code: ClassVar[str] = "unknown_session"
    close_code: ClassVar[int] = 4404
    field: str = "resume"

    def __str__(self) -> str:
        return (
            "no session can be resumed with this token: it has ended or was away "
            "for too long; open a new one"
        )


@dataclass(eq=False)
class ModelChanged(ProtocolError):
    """The session was begun with other weights than are served now."""

    code: ClassVar[str] = "model_changed"
    close_code: ClassVar[int] = 4409
    model: str
    value: str
    served: str
    field: str = "resume"

    def __str__(self) -> str:
        return (
            f"the session was begun with version {clip(self.value)} of {self.model!r}, "
            f"and this server has {clip(self.served)}; open a new one"
        )


@dataclass(eq=False)
class TakenOver(ProtocolError):
    """Another connection resumed this session."""

    code: ClassVar[str] = "taken_over"
    close_code: ClassVar[int] = 4410

    def __str__(self) -> str:
        return "another connection has resumed this session; it goes on there"


@dataclass(eq=False)
class SessionIdle(ProtocolError):
    """The client said nothing for as long as a silent one may stay."""

    code: ClassVar[str] = "session_idle"
    close_code: ClassVar[int] = 4408
    value: float

    def __str__(self) -> str:
        return (
            f"nothing came for {self.value:g} s; the session is put away, and its "
            "token, if it has one, goes on with it"
        )


@dataclass(eq=False)
class SessionDeleted(ProtocolError):
    """Somebody with the session's key has deleted it."""

    code: ClassVar[str] = "session_deleted"
    close_code: ClassVar[int] = 4404

    def __str__(self) -> str:
        return "the session was deleted by somebody who holds its key; open a new one"

"""What can go wrong when the holder of a key uses more than it may.

ProtocolError
├── TooManySessions         too_many_sessions      4429
└── RateExceeded            rate_exceeded          4429
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.server.protocol.errors import ProtocolError


@dataclass(eq=False)
class TooManySessions(ProtocolError):
    """The key's holder has as many sessions as one key may have."""

    code: ClassVar[str] = "too_many_sessions"
    close_code: ClassVar[int] = 4429
    value: int

    def __str__(self) -> str:
        return (
            f"this key has its {self.value} sessions already; close one, or try again "
            "later"
        )


@dataclass(eq=False)
class RateExceeded(ProtocolError):
    """Far more came in than the key's holder may send in a second."""

    code: ClassVar[str] = "rate_exceeded"
    close_code: ClassVar[int] = 4429
    retry_after_s: float

    def __str__(self) -> str:
        return (
            "this key sends more than it may, on all its connections together; try "
            f"again in {self.retry_after_s:.1f} s"
        )

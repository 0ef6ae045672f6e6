"""What the device thread tells: to sessions, and to whoever watches the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from saccade.server.engine.errors import EngineError
from saccade.server.engine.leases import Lease
from saccade.server.engine.pool import Scored
from saccade.server.engine.rows import Exported
from saccade.server.engine.scheduler import Batch


class Failed(NamedTuple):
    """A session that the engine can serve no more."""

    lease: Lease
    error: EngineError


Outcome: TypeAlias = Scored | Failed | Exported

Deliver: TypeAlias = Callable[[list[Outcome]], None]
"""Takes a batch's outcomes, on the device thread."""


class Observer(Protocol):
    """Who wants to know how the device is used; called on the device thread."""

    def compiled(self, model: str, seconds: float) -> None:
        """A model's buckets were compiled and proven."""

    def failed(self, model: str) -> None:
        """A model's pool failed, and its sessions with it."""

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """A batch ran; from its launch to its scores it took `seconds`."""

"""The way from a front end to an engine, whichever process that is in."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from saccade.server.engine.commands import Command
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import Deliver
from saccade.server.engine.ticks import TickArena


class EngineLink(Protocol):
    """The way to an engine: a thread of this process, or another process."""

    def start(self, deliver: Deliver) -> None:
        """Begin to deliver the engine's outputs, on a thread of the link's."""

    def add_arena(self, model: str, arena: TickArena) -> None:
        """Tell the engine where the pages of a model's ticks are."""

    def send(self, commands: list[Command]) -> None:
        """Have commands run, in order, after all that were sent before."""

    def check(self, model: str, device: int) -> None:
        """Raise an `EngineError` if a model takes no sessions on a device now."""

    def score_now(
        self, lease: Lease, arena: TickArena, pages: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float32] | None:
        """Score a session's next ticks on this thread, if that is sooner done.

        Nothing of the session is under way: all that it submitted under this lease, one
        tick at least, is scored and received, and so is every export.

        Returns:
            The scores, (k, c); None where they were not computed.
        """


class ModelShape(NamedTuple):
    """What a front end must know of a model.

    Attributes:
        key: The engine's name for the model.
        tick_events: Events per tick.
        classes: Number of logits.
    """

    key: str
    tick_events: int
    classes: int

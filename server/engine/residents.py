"""What a front end keeps of the sessions that have a slot, model by model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.tokens import TokenChunk
from saccade.server.engine.commands import Submit
from saccade.server.engine.engine_link import ModelShape
from saccade.server.engine.errors import StaleLease
from saccade.server.engine.leases import Lease, Leases
from saccade.server.engine.outputs import RowState
from saccade.server.engine.ticks import TickArena


class PendingExport(NamedTuple):
    """A row that was asked for, and what waited for it then.

    Attributes:
        submitted: Pages that the session had submitted in all.
        open_tick: A copy of its open tick's events.
        done: Receives the row.
    """

    submitted: int
    open_tick: TokenChunk
    done: Callable[[RowState], None]


class Resident:
    """The session that a slot is leased to: its pages on the way, and its open tick."""

    __slots__ = ("exports", "filled", "lease", "open_page", "pages", "submitted")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.pages: deque[int] = deque()
        self.submitted = 0
        self.open_page: int | None = None
        self.filled = 0
        self.exports: deque[PendingExport] = deque()


class Submits:
    """Pages that wait to be sent in one command."""

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.generations: list[int] = []
        self.pages: list[npt.NDArray[np.int32]] = []

    def add(self, lease: Lease, pages: npt.NDArray[np.int32]) -> None:
        """Add a session's next pages."""
        self.slots.append(lease.slot)
        self.generations.append(lease.generation)
        self.pages.append(pages)

    def command(self, model: str) -> Submit:
        """Return all in one command."""
        counts = [len(pages) for pages in self.pages]
        return Submit(
            model,
            np.repeat(np.array(self.slots, np.int32), counts),
            np.repeat(np.array(self.generations, np.int64), counts),
            np.concatenate(self.pages),
        )


class LeasedModel:
    """One model's leases on each device, pages and resident sessions."""

    def __init__(
        self, shape: ModelShape, leases: list[Leases], arena: TickArena
    ) -> None:
        self.shape = shape
        self.leases = leases
        self.arena = arena
        self.residents: dict[int, Resident] = {}
        self.submits: Submits | None = None

    @property
    def slots_used(self) -> int:
        """Slots that are leased."""
        return sum(leases.used for leases in self.leases)

    def resident(self, lease: Lease) -> Resident:
        """Return a lease's session.

        Raises:
            StaleLease: The lease has ended.
        """
        resident = self.residents.get(lease.slot)
        if resident is None or resident.lease != lease:
            raise StaleLease(lease.slot, lease.generation)
        return resident

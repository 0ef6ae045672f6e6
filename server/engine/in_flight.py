"""A batch on its way through the device, and its scores' way into their pages.

Only the device thread touches one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from saccade.server.engine import host_kernels
from saccade.server.engine.outputs import PagesDone
from saccade.server.engine.scheduler import Batch
from saccade.server.engine.ticks import TickArena

Ints = npt.NDArray[np.int32]


class Share(NamedTuple):
    """The rows of a batch whose pages are in one front end's arena.

    Attributes:
        port: The front end.
        arena: Its pages.
        first_row: The first of the rows.
        rows: How many rows.
        pages: Their pages, as a part of the batch's.
    """

    port: int
    arena: TickArena
    first_row: int
    rows: int
    pages: slice


class InFlight(NamedTuple):
    """A launched batch whose scores have not been read back.

    `restarts` is the pool's count at the launch: the pool's next restart makes the
    batch void.
    """

    model: str
    batch: Batch
    generations: npt.NDArray[np.int64]
    pages: Ints
    shares: list[Share]
    logits: Any
    launched_s: float
    restarts: int

    @property
    def done(self) -> bool:
        """Whether the device has finished with the batch."""
        return isinstance(self.logits, np.ndarray) or bool(self.logits.is_ready())


def read_scores(flight: InFlight) -> list[tuple[int, PagesDone]]:
    """Wait for a batch and write its scores to its pages; return who has which."""
    logits = flight.logits
    if not isinstance(logits, np.ndarray):
        logits = np.ascontiguousarray(jax.device_get(logits), np.float32)
    counts = flight.batch.counts
    for _, arena, first_row, rows, part in flight.shares:
        host_kernels.write_scores(
            arena.floats,
            flight.pages[part],
            counts,
            first_row,
            rows,
            arena.tick_events,
            logits,
        )
    return pages_of(flight, scored=True)


def pages_of(flight: InFlight, *, scored: bool) -> list[tuple[int, PagesDone]]:
    """Return a batch's pages for each front end that they belong to."""
    done = []
    for port, _, first_row, rows, part in flight.shares:
        row = slice(first_row, first_row + rows)
        slots, counts = flight.batch.slots[row], flight.batch.counts[row]
        generations = flight.generations[row]
        pages = flight.pages[part]
        part_done = (flight.model, slots, generations, counts, pages, scored)
        done.append((port, PagesDone(*part_done)))
    return done

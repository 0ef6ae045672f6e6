"""What a front end asks of an engine: plain values, sent in batches and run in order.

A batch leaves the event loop as one value, whether the engine is a thread of the same
process or another process. A command about a lease that has ended changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.server.engine.errors import EngineError
from saccade.server.engine.leases import Lease


class Insert(NamedTuple):
    """Begin a session in its slot, whatever was there before."""

    lease: Lease
    half_life_ms: float


class Restore(NamedTuple):
    """Continue a session in its slot from a row's arrays."""

    lease: Lease
    leaves: Sequence[npt.NDArray[Any]]


class Submit(NamedTuple):
    """Queue pages of some sessions, each session's in order of time.

    Attributes:
        model: The model's key.
        slots: Each page's slot, (n,), int32.
        generations: The generation of that slot's lease, (n,), int64.
        pages: The pages, (n,), int32.
    """

    model: str
    slots: npt.NDArray[np.int32]
    generations: npt.NDArray[np.int64]
    pages: npt.NDArray[np.int32]


class Export(NamedTuple):
    """Read a session's row once all that was submitted before is in its queue."""

    lease: Lease


class Release(NamedTuple):
    """End a session."""

    lease: Lease


class Fail(NamedTuple):
    """End a session by an error, in order with its scores."""

    lease: Lease
    error: EngineError


SlotCommand: TypeAlias = Insert | Restore | Export | Release | Fail
"""A command about one session."""

Command: TypeAlias = Submit | SlotCommand

"""One session's row as a value: what leaves the device, and what comes back to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np
import numpy.typing as npt

from saccade.model.tokens import TokenChunk
from saccade.server.engine.errors import EngineError, RowMismatch
from saccade.server.engine.leases import Lease
from saccade.server.engine.model_registry import PyTree
from saccade.server.engine.scheduler import Batch


class RowState(NamedTuple):
    """A session between two ticks: all that the engine holds of it.

    Attributes:
        leaves: The carry's arrays, in the order in which JAX flattens it.
        waiting: The events that are in no tick yet, the oldest first.
    """

    leaves: tuple[npt.NDArray[Any], ...]
    waiting: TokenChunk


class ExportedState(NamedTuple):
    """A row that somebody asked for.

    It is delivered after the scores of every tick that is in it, and before those
    of any later one.
    """

    lease: Lease
    row: RowState
    done: Callable[[RowState], None]


class Exporting(NamedTuple):
    """A row on its way from the device."""

    lease: Lease
    carry: PyTree
    waiting: TokenChunk
    done: Callable[[RowState], None]


def collect_row(exporting: Exporting) -> ExportedState:
    """Wait for a row and read it."""
    leaves = jax.tree.leaves(jax.device_get(exporting.carry))
    row = RowState(tuple(np.asarray(leaf) for leaf in leaves), exporting.waiting)
    return ExportedState(exporting.lease, row, exporting.done)


def carry_of(model: str, row: RowState, like: PyTree) -> PyTree:
    """Put a row's arrays back into the form of a carry.

    Raises:
        RowMismatch: They are not those of this model's carry.
    """
    shapes = jax.tree.leaves(like)
    found = [(leaf.shape, leaf.dtype) for leaf in row.leaves]
    if found != [(shape.shape, shape.dtype) for shape in shapes]:
        raise RowMismatch(model)
    return jax.tree.unflatten(jax.tree.structure(like), row.leaves)


# >>> merged from server.engine.outcomes
# >>> """What the device thread tells: to sessions, and to whoever watches the device."""


class TickScores(NamedTuple):
    """Some ticks of one session.

    Attributes:
        lease: Whose they are.
        logits: Scores after each tick, `(k, c)`.
        t_us: Timestamp of each tick's last event, `(k,)`.
    """

    lease: Lease
    logits: npt.NDArray[np.float32]
    t_us: npt.NDArray[np.int64]


class StreamFailed(NamedTuple):
    """A session that the engine can serve no more."""

    lease: Lease
    error: EngineError


EngineOutput: TypeAlias = TickScores | StreamFailed | ExportedState

Deliver: TypeAlias = Callable[[list[EngineOutput]], None]
"""Takes a batch's outcomes, on the device thread."""


class Observer(Protocol):
    """Who wants to know how the device is used; called on the device thread."""

    def compiled(self, model: str, seconds: float) -> None:
        """A model's buckets were compiled and proven."""

    def failed(self, model: str) -> None:
        """A model's pool failed, and its sessions with it."""

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """A batch ran; from its launch to its scores it took `seconds`."""

"""Values that leave the device thread: scores, failures, and exported sessions."""

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


class TickScores(NamedTuple):
    """Scores of some consecutive ticks of one session.

    Attributes:
        lease: The session's lease.
        logits: Scores after each tick, `(k, c)`.
        t_us: Timestamp of each tick's last event, `(k,)`.
    """

    lease: Lease
    logits: npt.NDArray[np.float32]
    t_us: npt.NDArray[np.int64]


class StreamFailed(NamedTuple):
    """The end of a session that the engine cannot serve any more."""

    lease: Lease
    error: EngineError


class RowState(NamedTuple):
    """A session between two ticks: all that the engine holds of it.

    Attributes:
        leaves: The carry's arrays, in the order in which JAX flattens it.
        waiting: The events that are in no tick yet, the oldest first.
    """

    leaves: tuple[npt.NDArray[Any], ...]
    waiting: TokenChunk


class ExportedState(NamedTuple):
    """A session's row on the host, with the callback that takes it.

    It is delivered after the scores of every tick that is in the row, and before
    those of any later tick.
    """

    lease: Lease
    row: RowState
    done: Callable[[RowState], None]


EngineOutput: TypeAlias = TickScores | StreamFailed | ExportedState

Deliver: TypeAlias = Callable[[list[EngineOutput]], None]
"""Takes the outputs of one batch, on the device thread."""


class Observer(Protocol):
    """Counts how the device is used; called on the device thread."""

    def compiled(self, model: str, seconds: float) -> None:
        """A model's buckets were compiled and checked against its canary."""

    def failed(self, model: str) -> None:
        """A model's pool failed, and its sessions with it."""

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """A batch ran; from its launch to its scores it took `seconds`."""


class PendingExport(NamedTuple):
    """A row whose copy from the device to the host has been launched."""

    lease: Lease
    carry: PyTree
    waiting: TokenChunk
    done: Callable[[RowState], None]


def read_export(export: PendingExport) -> ExportedState:
    """Wait until a row's copy has reached the host, and return it."""
    leaves = jax.tree.leaves(jax.device_get(export.carry))
    row = RowState(tuple(np.asarray(leaf) for leaf in leaves), export.waiting)
    return ExportedState(export.lease, row, export.done)


def carry_of(model: str, row: RowState, like: PyTree) -> PyTree:
    """Return a row's arrays in the form of a carry.

    Args:
        model: The model's name, for the error.
        row: The exported row.
        like: A carry of the model.

    Raises:
        RowMismatch: The arrays are not those of this model's carry.
    """
    shapes = jax.tree.leaves(like)
    found = [(leaf.shape, leaf.dtype) for leaf in row.leaves]
    if found != [(shape.shape, shape.dtype) for shape in shapes]:
        raise RowMismatch(model)
    return jax.tree.unflatten(jax.tree.structure(like), row.leaves)

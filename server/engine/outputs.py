"""Values that leave the device thread, and what a front end makes of them.

The device thread delivers `DeviceOutput`s, in order, one batch a step. A front end
(`frontend.py`) turns them into the `EngineOutput`s of its streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.tokens import TokenChunk
from saccade.server.engine.errors import EngineError
from saccade.server.engine.leases import Lease
from saccade.server.engine.scheduler import Batch


class TickScores(NamedTuple):
    """Scores of some consecutive ticks of one session.

    Attributes:
        lease: The session's lease.
        logits: Scores after each tick, `(k, c)`.
        t_us: Timestamp of each tick's last event, `(k,)`.
        top: Index of each tick's largest score, `(k,)`.
        confidence: Its probability under a softmax, `(k,)`.
        finite: Whether every score is a finite number.
    """

    lease: Lease
    logits: npt.NDArray[np.float32]
    t_us: npt.NDArray[np.int64]
    top: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    finite: bool = True


def columns_of(
    scores: TickScores, chosen: npt.NDArray[np.int64], labels: Sequence[str]
) -> tuple[list[int], list[list[float]], list[str], list[float]]:
    """Return some ticks' timestamps, logits, top labels and their probabilities."""
    whole = len(chosen) == len(scores.t_us)
    columns = (scores.t_us, scores.logits, scores.top, scores.confidence)
    t_us, logits, top, confidence = (
        (part if whole else part[chosen]).tolist() for part in columns
    )
    return t_us, logits, [labels[index] for index in top], confidence


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

    leaves: Sequence[npt.NDArray[Any]]
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
"""An output for one stream."""


class PagesDone(NamedTuple):
    """Pages that the engine has finished with, by rows of a batch.

    Attributes:
        model: The model's key.
        slots: Each row's slot, (n,).
        generations: The generation of its lease, (n,).
        counts: Each row's pages, (n,).
        pages: The pages, row after row, (k,).
        scored: Whether the pages hold scores; otherwise they were dropped.
    """

    model: str
    slots: npt.NDArray[np.int32]
    generations: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int32]
    pages: npt.NDArray[np.int32]
    scored: bool


class ExportedRow(NamedTuple):
    """The arrays of a session's row."""

    lease: Lease
    leaves: Sequence[npt.NDArray[Any]]


DeviceOutput: TypeAlias = PagesDone | ExportedRow | StreamFailed

Deliver: TypeAlias = Callable[[list[DeviceOutput]], None]
"""Takes the outputs of one step, on the device thread."""


class DeviceUse(NamedTuple):
    """What one device has done and does now.

    Attributes:
        name: The device's, such as `cuda:1`.
        batches: Calls.
        events: Events in whole ticks that the calls scored.
        batch_s: Time from each call's launch to its scores, added up.
        failures: Times that a model's sessions were lost on it.
        slots_used: Slots that sessions hold, of all models.
        ticks_waiting: Whole ticks that wait.
        busy_s: Time in steps that had work, added up.
        recompiles: Programs compiled after its models were ready.
    """

    name: str
    batches: int
    events: int
    batch_s: float
    failures: int
    slots_used: int
    ticks_waiting: int
    busy_s: float
    recompiles: int


class Observer(Protocol):
    """Counts how the device is used; called on the device thread."""

    def compiled(self, model: str, seconds: float) -> None:
        """A model's buckets were compiled and checked against its canary."""

    def canary_missed(self, model: str) -> None:
        """A model computed other scores than its canary's, and was refused."""

    def failed(self, model: str) -> None:
        """A model's pool failed, and its sessions with it."""

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """A batch ran; from its launch to its scores it took `seconds`."""

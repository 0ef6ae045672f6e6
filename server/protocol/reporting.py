"""Report policies, and the messages that carry a tick's scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from saccade.server.protocol.messages import Closed, Every, Flushed, Report, Result

_US_IN_MS: Final = 1000


class Tick(NamedTuple):
    """The scores after a tick; its counts are since open or reset."""

    ticks: int
    events: int
    t_us: int
    logits: npt.NDArray[np.floating[Any]] | Sequence[float]


Position: TypeAlias = int | None
"""A reporter's state: the newest tick's key."""

_Key: TypeAlias = Callable[[Tick, int], Position]

_POLICIES: Final[dict[Every, tuple[_Key, Position]]] = {
    "tick": (lambda tick, n: tick.ticks, 0),
    "events": (lambda tick, n: tick.events // n, 0),
    "ms": (lambda tick, n: tick.t_us // (_US_IN_MS * n), None),
    "change": (lambda tick, n: int(np.argmax(tick.logits)), None),
    "flush": (lambda tick, n: None, None),
}
"""Each report policy: a tick's key, and the key before the first tick.

A tick is reported when its key differs from the key of the tick before.
"""
assert set(_POLICIES) == {*get_args(Every)}


class Reporter:
    """Selects the ticks that one session reports.

    The selection depends on the ticks alone, not on how they were batched.
    """

    def __init__(self, report: Report) -> None:
        self._key, self._first = _POLICIES[report.every]
        self._n = report.n or 1
        self._last = self._first

    @property
    def position(self) -> Position:
        """All that the coming selections depend on."""
        return self._last

    def resume(self, position: Position) -> None:
        """Go on from another reporter's position."""
        self._last = position

    def select(self, ticks: Iterable[Tick]) -> list[Tick]:
        """Return those of the next ticks that the policy reports."""
        selected = []
        for tick in ticks:
            key = self._key(tick, self._n)
            if key != self._last:
                selected.append(tick)
            self._last = key
        return selected

    def reset(self) -> None:
        """Start over, as after the session's `reset`."""
        self._last = self._first


class Scores(NamedTuple):
    """Logits with the label of the largest, and its probability under a softmax."""

    logits: list[float]
    label: str
    confidence: float


def scores(logits: npt.ArrayLike, labels: Sequence[str]) -> Scores:
    """Name the top label of some logits.

    Args:
        logits: Class scores before softmax, shape (c,).
        labels: The classes, in the logits' order.
    """
    values = np.asarray(logits, np.float64)
    top = int(np.argmax(values))
    confidence = 1.0 / float(np.exp(values - values[top]).sum())
    return Scores(values.tolist(), labels[top], confidence)


def result(
    tick: Tick, labels: Sequence[str], *, seq: int, dropped: int | None = None
) -> Result:
    """Write a tick's scores as the message."""
    ticks, events, t_us, logits = tick
    return Result(seq, ticks, events, t_us, *scores(logits, labels), dropped)


def flushed(
    tick: Tick | None,
    labels: Sequence[str],
    *,
    id: int,
    seq: int,
    pending: int,
    dropped: int | None = None,
) -> Flushed:
    """Write the answer to a flush from the newest tick, None before the first."""
    return Flushed(id, seq, *_so_far(tick, labels, pending), dropped)


def closed(
    tick: Tick | None,
    labels: Sequence[str],
    *,
    seq: int,
    pending: int,
    dropped: int | None = None,
) -> Closed:
    """Write the final scores from the newest tick, None before the first."""
    return Closed(seq, *_so_far(tick, labels, pending), dropped)


_SoFar: TypeAlias = tuple[
    int, int, int, int | None, list[float] | None, str | None, float | None
]


def _so_far(tick: Tick | None, labels: Sequence[str], pending: int) -> _SoFar:
    """Return the fields that `Flushed` and `Closed` share, in their order."""
    if tick is None:
        return 0, 0, pending, None, None, None, None
    ticks, events, t_us, logits = tick
    return ticks, events, pending, t_us, *scores(logits, labels)

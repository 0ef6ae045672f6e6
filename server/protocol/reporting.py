"""Which ticks a client hears of, and the messages that carry their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.server.protocol.messages import Closed, Every, Flushed, Report, Result

_US_IN_MS: Final = 1000


class Tick(NamedTuple):
    """What the engine says after a tick; the counts are since open or reset."""

    ticks: int
    events: int
    t_us: int
    logits: npt.NDArray[np.floating[Any]] | Sequence[float]


Position: TypeAlias = int | None
"""Where a reporter stands: the newest tick's key."""

_Key: TypeAlias = Callable[[Tick, int], Position]

_KEYS: Final[dict[Every, tuple[_Key, Position]]] = {
    "tick": (lambda tick, n: tick.ticks, 0),
    "events": (lambda tick, n: tick.events // n, 0),
    "ms": (lambda tick, n: tick.t_us // (_US_IN_MS * n), None),
    "change": (lambda tick, n: int(np.argmax(tick.logits)), None),
    "flush": (lambda tick, n: None, None),
}
"""A tick is reported when its key differs from the last tick's; and the first key."""


class Reporter:
    """One session's report policy.

    What it selects depends on the ticks alone, not on how they were batched.
    """

    def __init__(self, report: Report) -> None:
        self._key, self._first = _KEYS[report.every]
        self._n = report.n or 1
        self._last = self._first

    @property
    def position(self) -> Position:
        """Where it stands: all that its future depends on."""
        return self._last

    def resume(self, position: Position) -> None:
        """Go on where another reporter stood."""
        self._last = position

    def select(self, ticks: Iterable[Tick]) -> list[Tick]:
        """Return those of the next ticks that the client wants to hear of."""
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


def result(
    tick: Tick, labels: Sequence[str], *, seq: int, dropped: int | None = None
) -> Result:
    """Write a tick's scores as the message."""
    ticks, events, t_us, _ = tick
    return Result(seq, ticks, events, t_us, *top_scores(tick.logits, labels), dropped)


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
    ticks, events, t_us, _ = tick
    return ticks, events, pending, t_us, *top_scores(tick.logits, labels)


def top_scores(
    logits: npt.NDArray[np.floating[Any]] | Sequence[float], labels: Sequence[str]
) -> tuple[list[float], str, float]:
    """Return logits, the top label, and its probability under a softmax."""
    scores = np.asarray(logits, np.float64)
    top = int(np.argmax(scores))
    confidence = 1.0 / float(np.exp(scores - scores[top]).sum())
    return scores.tolist(), labels[top], confidence

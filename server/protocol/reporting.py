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

Times: TypeAlias = npt.NDArray[np.int64]
Indices: TypeAlias = npt.NDArray[np.int64]
LogitRows: TypeAlias = npt.NDArray[np.float32]


class _Ticks(NamedTuple):
    """One tick, or consecutive ones: counts since open or reset, times, logits.

    A field holds a number for one tick, and an array for several; `logits` has one
    more axis, of classes.
    """

    ticks: Any
    events: Any
    t_us: Any
    logits: Any


_Key: TypeAlias = Callable[[_Ticks, int], Any]


class _Policy(NamedTuple):
    """A report policy: a tick is reported when its key is not that of the tick before.

    Attributes:
        key: The key of one tick, or the keys of several.
        first: The key before the first tick.
        rising: Whether no later key is smaller.
        distinct: Whether each tick's key is its count, and so every tick is reported.
    """

    key: _Key
    first: Position = None
    rising: bool = True
    distinct: bool = False


_POLICIES: Final[dict[Every, _Policy]] = {
    "tick": _Policy(lambda ticks, n: ticks.ticks, 0, distinct=True),
    "events": _Policy(lambda ticks, n: ticks.events // n, 0),
    "ms": _Policy(lambda ticks, n: ticks.t_us // (_US_IN_MS * n)),
    "change": _Policy(lambda ticks, n: ticks.logits.argmax(axis=-1), rising=False),
    "flush": _Policy(lambda ticks, n: 0, 0),
}
assert set(_POLICIES) == {*get_args(Every)}

_NONE: Final[Indices] = np.empty(0, np.int64)
_ONE: Final[Indices] = np.zeros(1, np.int64)


class Reporter:
    """Selects the ticks that one session reports.

    The selection depends on the ticks alone, not on how they were batched.

    Args:
        report: The policy that the client chose.
        tick_events: Events in a tick.
    """

    def __init__(self, report: Report, tick_events: int = 1) -> None:
        self._policy = _POLICIES[report.every]
        self._n = report.n or 1
        self._tick_events = tick_events
        self._last = self._policy.first

    @property
    def position(self) -> Position:
        """All that the coming selections depend on."""
        return self._last

    def resume(self, position: Position) -> None:
        """Go on from another reporter's position."""
        self._last = self._policy.first if position is None else position

    def select_many(self, first_tick: int, t_us: Times, logits: LogitRows) -> Indices:
        """Return which of the next ticks the policy reports, in order.

        Args:
            first_tick: The first one's count since open or reset, from 1.
            t_us: Timestamp of each tick's last event, shape (k,), µs.
            logits: Scores after each tick, shape (k, c).

        Returns:
            Indices of the reported ticks, each in 0 … k - 1. Not to be written to.
        """
        count = len(t_us)
        if not count:
            return _NONE
        ticks, before = first_tick + count - 1, self._last
        if self._policy.distinct:
            self._last = ticks
            return _ONE if count == 1 else np.arange(count)
        newest = _Ticks(ticks, ticks * self._tick_events, int(t_us[-1]), logits[-1])
        self._last = last = int(self._policy.key(newest, self._n))
        if last == before and (self._policy.rising or count == 1):
            return _NONE
        if count == 1:
            return _ONE
        numbers = np.arange(first_tick, first_tick + count)
        given = _Ticks(numbers, numbers * self._tick_events, t_us, logits)
        keys = self._policy.key(given, self._n)
        changed = np.empty(count, np.bool_)
        changed[0] = keys[0] != before
        np.not_equal(keys[1:], keys[:-1], out=changed[1:])
        return np.flatnonzero(changed)

    def select(self, ticks: Iterable[Tick]) -> list[Tick]:
        """Return those of the next ticks that the policy reports."""
        selected = []
        for tick in ticks:
            given = _Ticks(*tick[:3], np.asarray(tick.logits))
            key = int(self._policy.key(given, self._n))
            if key != self._last:
                selected.append(tick)
            self._last = key
        return selected

    def reset(self) -> None:
        """Start over, as after the session's `reset`."""
        self._last = self._policy.first


class Scores(NamedTuple):
    """Logits with the label of the largest, and its probability under a softmax."""

    logits: list[float]
    label: str
    confidence: float


def scores_of(
    logits: npt.NDArray[np.floating[Any]],
) -> tuple[Indices, npt.NDArray[np.float64]]:
    """Name the top label of many ticks' logits at once.

    Args:
        logits: Class scores before softmax, shape (k, c).

    Returns:
        The index of each row's top label and its probability under a softmax,
        each (k,).
    """
    values = logits.astype(np.float64)
    top = values.argmax(axis=1)
    with np.errstate(invalid="ignore"):  # infinite scores have no softmax
        values -= values[np.arange(len(top)), top, None]
    np.exp(values, out=values)
    return top, 1.0 / values.sum(axis=1)


def scores(logits: npt.ArrayLike, labels: Sequence[str]) -> Scores:
    """Name the top label of some logits.

    Args:
        logits: Class scores before softmax, shape (c,).
        labels: The classes, in the logits' order.
    """
    values = np.asarray(logits, np.float64)
    top, confidence = scores_of(values[None])
    return Scores(values.tolist(), labels[top[0]], float(confidence[0]))


def result(
    tick: Tick, labels: Sequence[str], *, seq: int, dropped: int | None = None
) -> Result:
    """Write a tick's scores as the message."""
    ticks, events, t_us, logits = tick
    return Result(seq, ticks, events, t_us, *scores(logits, labels), dropped)


class LeftOut(NamedTuple):
    """The events that are in no score, by why; None where the client chose otherwise.

    Attributes:
        dropped: To make room for newer ones.
        skipped: Since they were invalid.
    """

    dropped: int | None = None
    skipped: int | None = None


NOTHING: Final = LeftOut()


def flushed(
    tick: Tick | None,
    labels: Sequence[str],
    *,
    id: int,
    seq: int,
    pending: int,
    left_out: LeftOut = NOTHING,
) -> Flushed:
    """Write the answer to a flush from the newest tick, None before the first."""
    return Flushed(id, seq, *_so_far(tick, labels, pending), *left_out)


def closed(
    tick: Tick | None,
    labels: Sequence[str],
    *,
    seq: int,
    pending: int,
    left_out: LeftOut = NOTHING,
) -> Closed:
    """Write the final scores from the newest tick, None before the first."""
    return Closed(seq, *_so_far(tick, labels, pending), *left_out)


_SoFar: TypeAlias = tuple[
    int, int, int, int | None, list[float] | None, str | None, float | None
]


def _so_far(tick: Tick | None, labels: Sequence[str], pending: int) -> _SoFar:
    """Return the fields that `Flushed` and `Closed` share, in their order."""
    if tick is None:
        return 0, 0, pending, None, None, None, None
    ticks, events, t_us, logits = tick
    return ticks, events, pending, t_us, *scores(logits, labels)

"""The bound on the number of lines, whatever clients do.

Clients could otherwise fill the log: with tracebacks about what they sent, with
refusals, or by using up what the process may open.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import Final, NamedTuple

MOST_OF_A_KIND: Final = 10
"""Lines of one kind within `PERIOD_S`; the others are counted."""
MOST_DEBUGGING: Final = 1_000
"""The same for the lines that only the level `debug` shows."""
PERIOD_S: Final = 60.0
COUNTING: Final = "the count of lines that were not logged"
MOST_KINDS: Final = 1_000

CLIENT_FAULTS: Final = {
    "uvicorn.error": frozenset(
        {
            "Invalid HTTP request received.",
            "Invalid UTF-8 sequence received from client.",
            "Unsupported upgrade request.",
            "ASGI callable returned without completing handshake.",
        }
    ),
    "asyncio": frozenset({"socket.send() raised exception."}),
}
"""For each logger, the messages about a client that sent nonsense, or left."""


def is_own_fault(record: logging.LogRecord) -> bool:
    """Return whether a record is not about a client's mistake that costs nothing."""
    return record.msg not in CLIENT_FAULTS.get(record.name, ())


class Kind(NamedTuple):
    """What records have in common that are bounded together."""

    logger: str
    level: int
    text: str


class _Count(NamedTuple):
    """The records of one kind since a moment."""

    since_s: float
    passed: int = 0
    left_out: int = 0


class Bound:
    """A filter that passes so many records of a kind in a period, and counts the rest.

    Records are of one kind if they are of one logger, level and text before its
    arguments, or if their `kind` is the same. `most_of_kind` of a record replaces
    `MOST_OF_A_KIND`. How many were left out is in `more_like_this` of the next record
    that passes, or in `take_overdue`, whichever comes first.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[Kind, _Count] = {}
        self._lock = Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record."""
        text = getattr(record, "kind", None) or str(record.msg).partition("\n")[0]
        kind, most = Kind(record.name, record.levelno, text), _most_of(record)
        with self._lock:
            now_s = self._clock()
            if kind not in self._counts and len(self._counts) >= MOST_KINDS:
                del self._counts[next(iter(self._counts))]
            count = self._counts.get(kind, _Count(now_s))
            if now_s - count.since_s >= PERIOD_S:
                record.more_like_this = count.left_out
                count = _Count(now_s)
            passes = count.passed < most
            self._counts[kind] = count._replace(
                passed=count.passed + passes, left_out=count.left_out + (not passes)
            )
        return passes

    def take_overdue(self) -> list[tuple[Kind, int]]:
        """Return how many of each kind were left out whose period is over, once."""
        with self._lock:
            now_s = self._clock()
            over = {
                kind: count
                for kind, count in self._counts.items()
                if now_s - count.since_s >= PERIOD_S
            }
            for kind in over:
                del self._counts[kind]
        return [(kind, one.left_out) for kind, one in over.items() if one.left_out]


def _most_of(record: logging.LogRecord) -> int:
    default = MOST_OF_A_KIND if record.levelno > logging.DEBUG else MOST_DEBUGGING
    most: int = getattr(record, "most_of_kind", default)
    return most

"""A session's answers to flushes: those that wait for scores, and the newest sent."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from saccade.server.sessions.snapshots import PendingFlush, Reply

REPLIES_KEPT: Final = 16


class _Sent(NamedTuple):
    """A reply, and the newest frame when it was sent."""

    seq: int
    message: Reply


class PendingReplies:
    """Flushes that wait for their scores, and the newest replies.

    A reply may be lost on its way; a client that comes back receives the newest again.
    """

    def __init__(self) -> None:
        self._flushes: deque[PendingFlush] = deque()
        self._sent: deque[_Sent] = deque(maxlen=REPLIES_KEPT)

    def __len__(self) -> int:
        return len(self._flushes)

    @property
    def newest(self) -> list[Reply]:
        """The newest replies, the oldest first."""
        return [sent.message for sent in self._sent]

    def add_flush(self, flush: PendingFlush) -> None:
        """Add a flush that waits."""
        self._flushes.append(flush)

    @property
    def next_due(self) -> float:
        """Ticks after which the oldest waiting flush is answered; else infinity."""
        return self._flushes[0].ticks if self._flushes else math.inf

    def take_due(self, ticks: int) -> Iterator[PendingFlush]:
        """Remove and yield the flushes to answer once so many ticks are scored."""
        while self._flushes and self._flushes[0].ticks <= ticks:
            yield self._flushes.popleft()

    def add_sent(self, seq: int, message: Reply) -> None:
        """Add a reply that is sent now, after frame `seq`."""
        self._sent.append(_Sent(seq, message))

    def export_state(
        self, seq: int
    ) -> tuple[tuple[PendingFlush, ...], tuple[Reply, ...]]:
        """Return the flushes and replies from no later than a frame."""
        flushes = tuple(flush for flush in self._flushes if flush.seq <= seq)
        return flushes, tuple(sent.message for sent in self._sent if sent.seq <= seq)

    def import_state(
        self, seq: int, flushes: Iterable[PendingFlush], replies: Iterable[Reply]
    ) -> None:
        """Continue with the flushes and replies up to a frame."""
        self._flushes.extend(flushes)
        self._sent.extend(_Sent(seq, message) for message in replies)

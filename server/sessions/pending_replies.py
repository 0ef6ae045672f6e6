"""What one client has asked for and is told: flushes, and the newest answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from saccade.server.sessions.snapshots import FlushMark, Reply

REPLIES_KEPT: Final = 16


class Said(NamedTuple):
    """An answer, and the newest frame when it was given."""

    seq: int
    message: Reply


class PendingReplies:
    """The flushes that wait, and the answers that may be lost on their way."""

    def __init__(self) -> None:
        self._asked: deque[FlushMark] = deque()
        self._said: deque[Said] = deque(maxlen=REPLIES_KEPT)

    @property
    def newest(self) -> list[Reply]:
        """The newest answers, to be said again to a client that came back."""
        return [said.message for said in self._said]

    def ask(self, mark: FlushMark) -> None:
        """Note a flush."""
        self._asked.append(mark)

    def due(self, ticks: int) -> Iterator[FlushMark]:
        """Take the flushes that are answered once so many ticks are scored."""
        while self._asked and self._asked[0].ticks <= ticks:
            yield self._asked.popleft()

    def say(self, seq: int, message: Reply) -> None:
        """Note an answer that is given now."""
        self._said.append(Said(seq, message))

    def up_to(self, seq: int) -> tuple[tuple[FlushMark, ...], tuple[Reply, ...]]:
        """Return what was asked and said no later than a frame."""
        asked = tuple(mark for mark in self._asked if mark.seq <= seq)
        return asked, tuple(said.message for said in self._said if said.seq <= seq)

    def recall(
        self, seq: int, asked: Iterable[FlushMark], said: Iterable[Reply]
    ) -> None:
        """Go on with what was asked and said up to a frame."""
        self._asked.extend(asked)
        self._said.extend(Said(seq, message) for message in said)

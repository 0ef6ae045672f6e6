"""The messages that wait for one client, bounded however slowly it reads.

Once as many results wait as may, a newer one takes the place of the newest that waits:
whoever reads slowly hears less often, and always the latest. A newer `ack`, which
includes the older, takes its place where nothing came between. Nothing else is ever
dropped; what else a client can cause (errors, flushes) comes from its own messages,
and nobody reads those while the box is full.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from saccade.server.protocol.messages import Ack, Result, ServerMessage


@dataclass
class _Place:
    """A place in the queue, whose message may be replaced while it waits."""

    message: ServerMessage


class Outbox:
    """A first-in-first-out queue of messages with a bound.

    Args:
        capacity: Messages that wait before results are replaced.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.most_results = capacity
        self._results = 0
        self._queue: deque[_Place] = deque()
        self._newest: dict[type[ServerMessage], _Place] = {}
        self.superseded = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether results are replaced, and the client's messages not read."""
        return len(self._queue) >= self._capacity

    def put(self, message: ServerMessage) -> None:
        """Add a message at the end, or in the place of one that it supersedes."""
        place = self._replaceable(message)
        if place is not None:
            place.message = message
            self.superseded += isinstance(message, Result)
            return
        place = _Place(message)
        self._queue.append(place)
        self._results += isinstance(message, Result)
        if isinstance(message, (Ack, Result)):
            self._newest[type(message)] = place
        else:
            self._newest.clear()  # nothing newer may overtake it

    def take(self) -> ServerMessage | None:
        """Remove the oldest message, or return None."""
        if not self._queue:
            return None
        place = self._queue.popleft()
        self._results -= isinstance(place.message, Result)
        if self._newest.get(type(place.message)) is place:
            del self._newest[type(place.message)]
        return place.message

    def _replaceable(self, message: ServerMessage) -> _Place | None:
        newest = self._newest.get(type(message))
        if newest is None or self.full:
            return newest
        if isinstance(message, Result):
            return newest if self._results >= self.most_results else None
        return newest if self._queue[-1] is newest else None

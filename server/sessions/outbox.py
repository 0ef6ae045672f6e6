"""The messages that wait for one client, bounded however slowly it reads.

Once the box is full, a newer `result` takes the place of the newest one that waits:
whoever reads slowly hears less often, and always the latest. A newer `ack`, which
includes the older, takes its place where nothing came between. Nothing else is ever
dropped; what else a client can cause (errors, flushes) comes from its own messages,
and nobody reads those while the box is full.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from server.protocol.messages import Ack, Result, ServerMessage


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
        if isinstance(message, (Ack, Result)):
            self._newest[type(message)] = place
        else:
            self._newest.clear()  # nothing newer may overtake it

    def take(self) -> ServerMessage | None:
        """Remove the oldest message, or return None."""
        if not self._queue:
            return None
        place = self._queue.popleft()
        if self._newest.get(type(place.message)) is place:
            del self._newest[type(place.message)]
        return place.message

    def _replaceable(self, message: ServerMessage) -> _Place | None:
        newest = self._newest.get(type(message))
        if newest is None or self.full:
            return newest
        adjacent = isinstance(message, Ack) and self._queue[-1] is newest
        return newest if adjacent else None

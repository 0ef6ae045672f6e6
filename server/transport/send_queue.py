"""The messages that wait for one client, bounded however slowly it reads.

Once as many results wait as may, a newer one takes the place of the newest that waits:
whoever reads slowly hears less often, and always the latest. A newer `ack`, which
includes the older, takes its place where nothing came between. Nothing else is ever
dropped; what else a client can cause (errors, flushes) comes from its own messages,
and nobody reads those while the box is full.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from saccade.server.protocol.errors import ProtocolError, error_message
from saccade.server.protocol.messages import Ack, Result, ServerMessage
from saccade.server.sessions.signal import Signal


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


# >>> merged from server.transport.mailbox
# >>> """One client's outbox on the event loop: who writes and who reads wait on it."""


class Ending(NamedTuple):
    """How a connection ends, once all its messages are sent."""

    close_code: int
    reason: str = ""


class Mailbox:
    """What one connection's reader, writer and session share; a `Carrier`.

    Args:
        capacity: Messages that wait before results are replaced.
        refused: Hears the code of each error that is sent.
    """

    def __init__(self, capacity: int, refused: Callable[[str], None]) -> None:
        self.outbox = Outbox(capacity)
        self.ending: Ending | None = None
        self.listening = True
        self._refused = refused
        self._signal = Signal()

    @property
    def over(self) -> bool:
        """Whether the connection has ended, but for what waits to be sent."""
        return self.ending is not None

    def put(self, message: ServerMessage) -> None:
        """Take a message; none follows the end."""
        if self.ending is None:
            self.outbox.put(message)
            self._signal.notify()

    def fail(self, error: ProtocolError) -> None:
        """Send an error and end with its close code."""
        if self.ending is None:
            self._refused(error.code)
            self.put(error_message(error))
            self.end(Ending(error.close_code, error.code))

    def stop_listening(self) -> None:
        """Have nothing more read from the client."""
        self.listening = False

    def end(self, ending: Ending) -> None:
        """End once what waits is sent; the first ending stands."""
        self.ending = self.ending or ending
        self._signal.notify()

    def progressed(self) -> None:
        """Let whoever waits for the session look again."""
        self._signal.notify()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something about the session, or for the end."""
        await self._signal.wait_for(lambda: condition() or self.ending is not None)

    async def rest(self, seconds: float) -> None:
        """Wait for so long, or for the end."""
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.until(lambda: False)

    async def next(self) -> ServerMessage | Ending:
        """Wait for the next message to send, or for the end."""
        await self.until(lambda: len(self.outbox) > 0)
        message = self.outbox.take()
        if message is not None:
            self._signal.notify()  # there is room again
            return message
        assert self.ending is not None
        return self.ending

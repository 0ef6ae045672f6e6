"""The messages that wait for one client, bounded however slowly the client reads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeAlias

from saccade.server.protocol.errors import CreditExceeded, ProtocolError
from saccade.server.protocol.messages import (
    Ack,
    ErrorMessage,
    GoAway,
    Result,
    ResultBatch,
    ServerMessage,
    error_message,
)
from saccade.server.sessions.signal import Signal


class Ending(NamedTuple):
    """How a connection ends, once all its messages are sent."""

    close_code: int
    reason: str = ""


Outgoing: TypeAlias = ServerMessage | ResultBatch
"""A message, or several results."""


@dataclass(slots=True, eq=False)
class _Place:
    """A place in the queue, whose message may be replaced while it waits.

    `superseded` counts the results that its result replaced.
    """

    message: Outgoing
    superseded: int = 0


class Writer(Protocol):
    """Sends what waits in a queue."""

    def write_soon(self) -> None:
        """Send what waits by then after this turn of the event loop."""

    def write_now(self) -> None:
        """Send what waits."""


class SendQueue:
    """A bounded first-in-first-out queue between a session and a connection's writer.

    Once as many results wait as may, a newer one replaces the newest that waits: a
    slow client receives fewer results, and always the latest. A newer `ack` includes
    the older and replaces it where nothing came between. Nothing else is ever dropped;
    what else a client can cause (errors, flushes) comes from its own messages, and
    `check` bounds it.

    All calls are on the event loop. The queue is the session's `MessageSink`.

    Args:
        capacity: Messages that wait before results are replaced, and the most answers
            that may wait.
        note_refusal: Receives each error that ends the connection.

    Attributes:
        most_results: Results that wait before they are replaced.
        superseded: Results that were replaced.
        ending: How the connection ends, once it is to.
        reading: Whether more is taken from the client; what it sends later is ignored.
    """

    def __init__(
        self,
        capacity: int,
        note_refusal: Callable[[ProtocolError], None] = lambda _: None,
    ) -> None:
        self._capacity = capacity
        self._note_refusal = note_refusal
        self._queue: deque[_Place] = deque()
        self._newest: dict[type[ServerMessage], _Place] = {}
        self._waiting = 0
        self._results = 0
        self._answers = 0
        self._changed = Signal()
        self._filled = Signal()
        self._writer: Writer | None = None
        self.most_results = capacity
        self.superseded = 0
        self.ending: Ending | None = None
        self.reading = True

    def __len__(self) -> int:
        return self._waiting

    def attach(self, writer: Writer) -> None:
        """Have this writer send what waits; without one, each message does `wake`."""
        self._writer = writer

    @property
    def deaf(self) -> bool:
        """Whether what the client sends now is ignored."""
        return self.ending is not None or not self.reading

    def put(self, message: ServerMessage) -> None:
        """Add a message, or replace one that it supersedes; none follows the end."""
        if self.ending is not None:
            return
        place = self._replaceable(message)
        if place is None:
            self._append(_Place(message))
        else:
            if isinstance(message, Result):
                place.superseded += 1
                self.superseded += 1
            place.message = message
        self._wake()

    def put_results(self, results: ResultBatch) -> None:
        """Add consecutive results, as `put` adds one after another."""
        count = len(results)
        room = min(self.most_results - self._results, self._capacity - self._waiting)
        if self.ending is not None or count > room:
            for result in results:
                self.put(result)
        elif count:
            self._newest[Result] = place = _Place(results)
            self._queue.append(place)
            self._results += count
            self._waiting += count
            self._wake()

    @property
    def crowded(self) -> bool:
        """Whether more answers wait than may."""
        return self._answers > self._capacity

    def check(self) -> None:
        """Raise where a client asks for more answers than it reads.

        Raises:
            CreditExceeded: More of them wait than may.
        """
        if self.crowded:
            raise CreditExceeded(self._answers, self._capacity, "answers")

    def fail(self, error: ProtocolError) -> None:
        """Add an error and end with its close code."""
        if self.ending is None:
            self._note_refusal(error)
            self.put(error_message(error))
            self.end(Ending(error.close_code, error.code))

    def silence(self) -> None:
        """Drop all that waits but errors and `goaway`: it is not known to be true."""
        kept = [p for p in self._queue if isinstance(p.message, (ErrorMessage, GoAway))]
        self._queue.clear()
        self._newest.clear()
        self._waiting = self._results = self._answers = 0
        for place in kept:
            self._append(place)

    def lose(self, error: ProtocolError) -> None:
        """Drop all that waits, and end with an error, whatever was to be the end."""
        self.ending = None
        self.silence()
        self.fail(error)

    def end(self, ending: Ending) -> None:
        """End the connection once all messages are sent; the first ending stands."""
        self.ending = self.ending or ending
        self._wake()

    def progressed(self) -> None:
        """Have what waits sent, and wake `wait_for`: the session has scored ticks."""
        self._changed.notify()
        if self._writer is not None:
            self._writer.write_now()

    async def wait_for(
        self, condition: Callable[[], bool], seconds: float | None = None
    ) -> None:
        """Wait until a condition holds, the connection ends, or time has passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait_for(
                    lambda: self.ending is not None or condition()
                )

    @property
    def filled(self) -> bool:
        """Whether a message waits, or the connection is to end."""
        return bool(self._queue or self.ending)

    async def wait_until_filled(self) -> None:
        """Wait for a message, or for the end; `wake` follows either."""
        await self._filled.wait_for(lambda: self.filled)

    def wake(self) -> None:
        """Wake who waits until something is there."""
        self._filled.notify()

    def take_all(self) -> list[Outgoing]:
        """Remove and return all messages that wait."""
        messages = [_told(place) for place in self._queue]
        self._queue.clear()
        self._newest.clear()
        self._waiting = self._results = self._answers = 0
        return messages

    def _wake(self) -> None:
        """Have what waits sent, and wake what waits for a condition."""
        if self._writer is None:
            self.wake()
        else:
            self._writer.write_soon()
        self._changed.notify()

    def _append(self, place: _Place) -> None:
        kind = type(place.message)
        self._queue.append(place)
        self._waiting += 1
        if kind is Ack or kind is Result:
            self._newest[kind] = place
            self._results += kind is Result
        else:
            self._newest.clear()  # no later message may overtake this one
            self._answers += 1

    def _replaceable(self, message: ServerMessage) -> _Place | None:
        """Return the place of the message that a new one supersedes, if there is."""
        newest = self._newest.get(type(message))
        if newest is None:
            return None
        if isinstance(message, Result):
            most = self._results >= self.most_results
            crowded = most or self._waiting >= self._capacity
            return self._last_result(newest) if crowded else None
        last = self._queue[-1] is newest
        return newest if last or self._waiting >= self._capacity else None

    def _last_result(self, place: _Place) -> _Place:
        """Return the place of the last result of a place, one of its own."""
        if not isinstance(place.message, ResultBatch):
            return place
        singles = [_Place(result) for result in place.message]
        at = self._queue.index(place)
        del self._queue[at]
        for single in reversed(singles):
            self._queue.insert(at, single)
        self._newest[Result] = singles[-1]
        return singles[-1]


def _told(place: _Place) -> Outgoing:
    """Return a place's message, which says how many results it replaced."""
    if place.superseded and isinstance(place.message, Result):
        return replace(place.message, superseded=place.superseded)
    return place.message

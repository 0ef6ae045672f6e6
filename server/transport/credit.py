"""One client's credit: what it has under way, against what it was granted.

Reading never stops while a connection is healthy, so memory is bounded by what a client
may send before it is told that earlier frames are consumed. A key's rate holds that
telling back.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

from saccade.model.events.encodings.packed import RECORD_BYTES
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.errors import (
    CreditExceeded,
    InvalidField,
    ProtocolError,
)
from saccade.server.protocol.ledger import Counts, Ledger
from saccade.server.protocol.messages import (
    Ack,
    ClientMessage,
    EventsFrame,
)
from saccade.server.transport.send_queue import Outgoing, SendQueue

HOLD_S: Final = 0.01
"""Frames whose acknowledgements are due within so long are held as one."""

Decoded: TypeAlias = ClientMessage | ProtocolError


class _Hold(NamedTuple):
    """From this time on, the frames of these counts may be acknowledged."""

    until_s: float
    sent: Counts


class Credit:
    """The acknowledgements that one client was sent, and those that wait for a rate.

    Args:
        limits: The session's window.
        flushes: How many may be unanswered.
    """

    def __init__(self, limits: Limits, flushes: int = 1024) -> None:
        self._most_flushes = flushes
        slack = limits.max_frame_bytes
        self._most_events = limits.window_events + slack // RECORD_BYTES
        self._most_bytes = limits.window_bytes + slack
        self._told = Counts()
        self._free: Counts | None = None
        self._held: deque[_Hold] = deque()

    def begin(self, acked: Counts) -> None:
        """Take what a session that is opened or resumed has acknowledged."""
        self._told = acked

    def hold(self, sent: Counts, waiting: Counts, until_s: float) -> None:
        """Hold back the acknowledgement of all frames up to now.

        Args:
            sent: The frames that the session has taken.
            waiting: Those after them.
            until_s: The time from which they may be acknowledged.
        """
        sent = _added(sent, waiting)
        if self._held and until_s - self._held[-1].until_s < HOLD_S:
            until_s = self._held.pop().until_s
        self._held.append(_Hold(until_s, sent))

    def release(self, ack: Ack, now_s: float) -> Ack:
        """Return the acknowledgement that the client may be sent now."""
        while self._held and self._held[0].until_s <= now_s:
            self._free = self._held.popleft().sent
        if not self._held:
            self._free = None
        elif self._free is None:
            self._free = self._told
        if self._free is not None and self._free.seq < ack.seq:
            seq, events, size = self._free
            ack = replace(ack, seq=seq, events=events, bytes=size)
        if ack.seq >= self._told.seq:
            self._told = Counts(ack.seq, ack.events, ack.bytes)
        return ack

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until more may be acknowledged; 0 if nothing is held."""
        return max(0.0, self._held[0].until_s - now_s) if self._held else 0.0

    def check_flushes(self, unanswered: int) -> None:
        """Raise where a client asks for more scores than may be awaited.

        Raises:
            CreditExceeded: It does.
        """
        if unanswered > self._most_flushes:
            raise CreditExceeded(unanswered, self._most_flushes, "flushes")

    def check(self, ledger: Ledger, waiting: Counts, *, raw: bool) -> None:
        """Raise where a client has more under way than its window and one frame.

        Where the oldest events are dropped, what the session has taken is bounded by
        that, and only what waits for it counts.

        Args:
            ledger: What the session has taken.
            waiting: The frames after that.
            raw: Whether frames are a sensor's words, of which a client knows the bytes
                but not the events.

        Raises:
            CreditExceeded: It has.
        """
        _, events, size = waiting
        if ledger.dropped is None:
            events += ledger.sent.events - self._told.events
            size += ledger.sent.bytes - self._told.bytes
        if events > self._most_events and not raw:
            raise CreditExceeded(events, self._most_events)
        if size > self._most_bytes:
            raise CreditExceeded(size, self._most_bytes, "bytes")


class AckWriter:
    """Sends a client its acknowledgements, each when its key's rate allows.

    Args:
        credit: The client's credit.
        queue: The client's messages; takes what becomes due later.
        count_hold: Called when the rate begins to hold acknowledgements back.
    """

    def __init__(
        self, credit: Credit, queue: SendQueue, count_hold: Callable[[], None]
    ) -> None:
        self.credit = credit
        self._queue = queue
        self._count_hold = count_hold
        self._withheld: Ack | None = None
        self._newest = Ack(0, 0, 0)
        self._timer: asyncio.TimerHandle | None = None

    def release(self, messages: list[Outgoing]) -> list[Outgoing]:
        """Return those messages that may be sent now; acknowledgements say less."""
        released = [self._released(m) if type(m) is Ack else m for m in messages]
        if self._withheld is not None and self._timer is None:
            wait_s = self.credit.wait_s(time.monotonic())
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(wait_s, self._try_again)
        return [message for message in released if message is not None]

    def stop(self) -> None:
        """Send no more by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def _released(self, ack: Ack) -> Ack | None:
        told = self.credit.release(ack, time.monotonic())
        if told is ack:
            self._withheld = None
        else:
            if self._withheld is None:
                self._count_hold()
            self._withheld = ack
            if told == self._newest:
                return None
        self._newest = told
        return told

    def _try_again(self) -> None:
        self._timer = None
        if self._withheld is not None and not len(self._queue):
            self._queue.put(self._withheld)


class Backlog:
    """Messages that came while an earlier one waits, in order.

    Args:
        most: How many of them may be other messages than frames.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._messages: deque[Decoded] = deque()
        self.counts = Counts()
        """The frames among them."""

    def __bool__(self) -> bool:
        return bool(self._messages)

    def append(self, message: Decoded) -> None:
        """Add a message.

        Raises:
            CreditExceeded: Too many wait that are not frames.
        """
        self._messages.append(message)
        self.counts = _added(self.counts, _counts(message))
        others = len(self._messages) - self.counts.seq
        if others > self._most:
            raise CreditExceeded(others, self._most, "requests")

    def take(self) -> Iterator[Decoded]:
        """Remove and yield one message after another."""
        while self._messages:
            message = self._messages.popleft()
            seq, events, size = _counts(message)
            self.counts = _added(self.counts, Counts(-seq, -events, -size))
            yield message


def _added(some: Counts, more: Counts) -> Counts:
    return Counts(*map(int.__add__, some, more))


def _counts(message: Decoded) -> Counts:
    """Return what a message counts for: one frame with its events, or nothing."""
    match message:
        case EventsFrame():
            size = len(message.data)
        case InvalidField() if message.seq is not None:
            size = message.size
        case _:
            return Counts()
    return Counts(1, size // RECORD_BYTES, size)

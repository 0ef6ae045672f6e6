"""The messages that websockets have received, and whose turn it is to be handled.

uvicorn stops to read from a socket at each message, until the application has taken
it: two system calls a message. An inbox here stops once much waits. And an application
that awaits each message is woken a turn of the event loop later, which is the longer
the more the others send. One that listens has each message handed to it at once, or
when it is its turn: of all that came, a part is handled in one turn of the event loop,
of those connections first that were given the fewest bytes. So a connection that asks
for little waits for none of those that ask for much.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Final, TypeAlias

from starlette.types import Message

from saccade.server.fair_queue import FairQueue

LISTEN: Final = "saccade.listen"
"""The name of `Inbox.listen` in the state of a connection's scope."""

MOST_WAITING: Final = 1 << 16
"""Bytes of messages that wait for the application before reading is paused; one read
from the socket, of at most 256 KiB, may bring more."""

TURN_S: Final = 0.0005
"""How long messages are handled in one turn of the event loop, and one further."""

GIVEN_TURNS: Final = 3
"""Turns of the event loop for which a listener is handed nothing, once it asks."""

DISCONNECT: Final = "websocket.disconnect"

Hear: TypeAlias = Callable[[Message], bool]
"""Handles a message; returns whether the next may follow at once. Otherwise others have
their turn before."""


class Inbox:
    """The messages of one websocket that wait for the application.

    It stands in for the queue of uvicorn's protocol: `put_nowait`, `get` and `empty`
    are what uvicorn calls. One coroutine takes messages, or listens to them.

    Args:
        turns: Whose turn it is.
    """

    def __init__(self, turns: ReadTurns) -> None:
        self._turns = turns
        self._messages: deque[Message] = deque()
        self._size = 0
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._hear: Hear | None = None
        self._end: asyncio.Future[Message] | None = None
        self._waits = False
        self.closed = False
        """Whether the connection is lost."""

    def attach(self, transport: asyncio.Transport) -> None:
        """Pause and resume the reading of this transport."""
        self._transport = transport

    def put_nowait(self, message: Message) -> None:
        """Add a message, and pause reading where many wait."""
        self._messages.append(message)
        self._size += _size_of(message)
        if self._size > MOST_WAITING and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._offer()

    def empty(self) -> bool:
        """Return whether no message waits."""
        return not self._messages

    async def get(self) -> Message:
        """Wait for a message, and remove the oldest."""
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take()

    async def listen(self, hear: Hear) -> Message:
        """Have all messages handed over; return that of the end, once it has come.

        What `hear` raises ends it, too. `hear` runs in the caller's context.
        """
        context = copy_context()
        self._hear = lambda message: context.run(hear, message)
        self._end = asyncio.get_running_loop().create_future()
        self._offer()
        try:
            return await self._end
        finally:
            self._hear = None

    def hand_over(self) -> tuple[int, bool]:
        """Hand over the oldest message; return its size, and whether others may follow.

        Called by `ReadTurns`.
        """
        self._waits = False
        if self._hear is None or self._end is None or not self._messages:
            return 0, True
        message = self._take()
        size, goes_on = _size_of(message), True
        if message["type"] == DISCONNECT:
            self._stop().set_result(message)
        else:
            try:
                goes_on = self._hear(message)
            except Exception as error:
                self._stop().set_exception(error)
        return size, goes_on

    def wait(self) -> bool:
        """Note that it stands in line; return False where there is nothing to do."""
        self._waits = bool(self._hear and self._messages)
        return self._waits

    def hold(self) -> None:
        """Be offered nothing until `wait`."""
        self._waits = True

    def resume_reading(self) -> None:
        """Read from the socket again, if that was paused."""
        if self._paused and self._transport and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Forget what it was given: the connection is lost."""
        self.closed = True
        self._turns.forget(self)

    def _offer(self) -> None:
        if self._hear is not None and self._messages and not self._waits:
            self._turns.offer(self)

    def _stop(self) -> asyncio.Future[Message]:
        assert self._end is not None
        self._hear = None
        return self._end

    def _take(self) -> Message:
        message = self._messages.popleft()
        self._size -= _size_of(message)
        if not self._messages:
            self.resume_reading()
        return message


class ReadTurns:
    """Hands over what inboxes hold; all websockets of an event loop share one.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._line = FairQueue[Inbox]()
        self._spent_s = 0.0
        self._planned = False

    def offer(self, inbox: Inbox) -> None:
        """Hand over a message now, if it is this inbox's turn, or later."""
        free = not self._line and self._spent_s < TURN_S
        if free or self._line.owes_none(inbox):
            self._hand_over(inbox)
        else:
            self._enter(inbox)

    def forget(self, inbox: Inbox) -> None:
        """Forget what an inbox has been given."""
        self._line.forget(inbox)

    def _enter(self, inbox: Inbox) -> None:
        if inbox.wait():
            self._line.enter(inbox)
            self._plan()

    def _hand_over(self, inbox: Inbox) -> None:
        began_s = self._clock()
        size, goes_on = inbox.hand_over()
        self._line.serve(inbox, size)
        if inbox.closed:
            self._line.forget(inbox)
        self._spent_s += self._clock() - began_s
        self._plan()
        if goes_on:
            self._enter(inbox)
        else:
            inbox.hold()
            self._hold(inbox, GIVEN_TURNS)

    def _hold(self, inbox: Inbox, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._hold, inbox, turns - 1)
        else:
            self._enter(inbox)

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """Have one turn."""
        self._planned, self._spent_s = False, 0.0
        while self._line and self._spent_s < TURN_S:
            self._hand_over(self._line.take())
        if self._line:
            self._plan()


def _size_of(message: Message) -> int:
    return len(message.get("bytes") or message.get("text") or b"")

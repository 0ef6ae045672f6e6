"""One client's outbox on the event loop: who writes and who reads wait on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from saccade.server.protocol.errors import ProtocolError, error_message
from saccade.server.protocol.messages import ServerMessage
from saccade.server.sessions.outbox import Outbox
from saccade.server.sessions.pulse import Pulse


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
        self._pulse = Pulse()

    @property
    def over(self) -> bool:
        """Whether the connection has ended, but for what waits to be sent."""
        return self.ending is not None

    def put(self, message: ServerMessage) -> None:
        """Take a message; none follows the end."""
        if self.ending is None:
            self.outbox.put(message)
            self._pulse.beat()

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
        self._pulse.beat()

    def progressed(self) -> None:
        """Let whoever waits for the session look again."""
        self._pulse.beat()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something about the session, or for the end."""
        await self._pulse.until(lambda: condition() or self.ending is not None)

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
            self._pulse.beat()  # there is room again
            return message
        assert self.ending is not None
        return self.ending

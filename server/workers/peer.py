"""Calls between two processes over one connection, in both directions.

A call waits for its answer; `tell` does not. Messages arrive in the order in which they
were sent: what one side told before it answered is known when the answer comes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgpack

from saccade.server.logs import about
from saccade.server.workers.framing import FrameProtocol

LOG: Final = logging.getLogger(__name__)
CALL, ANSWER, FAILURE, TELL = range(4)

Handler: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]
Listener: TypeAlias = Callable[..., None]


class PeerError(Exception):
    """Base of the errors of a call.

    PeerError
    ├── PeerLost     the other process has ended
    └── CallFailed   the call raised there
    """


class PeerLost(PeerError):
    """The other process has ended, or will not answer any more."""

    def __str__(self) -> str:
        return "the other process has ended"


@dataclass(eq=False)
class CallFailed(PeerError):
    """The call raised an exception in the other process."""

    name: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}: {self.reason}"


class Peer:
    """The other process, as this one calls it and is called by it.

    Args:
        handlers: By name, what answers the other's calls; each runs as a task.
        listeners: By name, what is told; called at once, in order.
        lost: Called once the other process has ended.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        listeners: Mapping[str, Listener],
        lost: Callable[[], None],
    ) -> None:
        self._handlers = handlers
        self._listeners = listeners
        self._on_lost = lost
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._frames = FrameProtocol(self._receive, self._lost)

    async def connect(self, connection: socket.socket) -> None:
        """Use a connected socket from now on."""
        loop = asyncio.get_running_loop()
        connection.settimeout(0)
        await loop.create_connection(lambda: self._frames, sock=connection)

    async def call(self, name: str, *arguments: Any) -> Any:
        """Have the other process do something, and return its answer.

        Raises:
            PeerLost: The other process has ended.
            CallFailed: It raised.
        """
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send(CALL, number, name, arguments)
            return await answer
        finally:
            self._waiting.pop(number, None)

    def tell(self, name: str, *arguments: Any) -> None:
        """Tell the other process something; lost if it has ended."""
        self._send(TELL, 0, name, arguments)

    def close(self) -> None:
        """End the connection."""
        self._frames.close()

    def _send(self, *message: Any) -> None:
        self._frames.send(msgpack.packb(message))

    def _receive(self, message: bytes) -> None:
        kind, number, name, content = msgpack.unpackb(message)
        match kind:
            case 0:
                task = asyncio.create_task(self._answer(number, name, content))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case 3:
                self._listeners[name](*content)
            case _:
                self._finish(kind, number, name, content)

    def _finish(self, kind: int, number: int, name: str, content: Any) -> None:
        answer = self._waiting.pop(number, None)
        if answer is None or answer.done():
            return
        if kind == ANSWER:
            answer.set_result(content)
        else:
            answer.set_exception(CallFailed(name, *content))

    async def _answer(self, number: int, name: str, arguments: list[Any]) -> None:
        try:
            result = await self._handlers[name](*arguments)
        except Exception as error:
            facts = about("call_failed", call=name)
            LOG.debug("a call of %s failed", name, exc_info=error, extra=facts)
            self._send(FAILURE, number, name, (type(error).__name__, str(error)))
        else:
            self._send(ANSWER, number, name, result)

    def _lost(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(PeerLost())
        self._on_lost()


async def ask_all(peers: list[Peer], name: str, *arguments: Any) -> list[Any]:
    """Call several processes; return the answers of those that gave one."""
    asked: list[Awaitable[Any]] = [peer.call(name, *arguments) for peer in peers]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    return [one for one in answers if not isinstance(one, BaseException)]

"""Dialling a server and opening a session on it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypedDict

from websockets.asyncio.client import ClientConnection, connect as connect_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from saccade.clients.endpoint import authorization, is_loopback, stream_url, trusted
from saccade.clients.errors import (
    ClientError,
    ConnectionLost,
    RequestRefused,
    ServerUnreachable,
    StreamError,
    stream_error,
)
from saccade.clients.session import Session
from saccade.model.events.sensor import Sensor
from saccade.server.protocol.codec import decode_server, encode_client
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import (
    Encoding,
    ErrorMessage,
    FitPolicy,
    Open,
    Opened,
    ReadoutWindow,
    Report,
    Results,
    WhenFull,
)

LARGEST_MESSAGE: Final = 4 << 20
"""Bytes; a server's message holds one score a class, so this is ample."""
OPEN_TIMEOUT_S: Final = 20.0


class Choices(TypedDict, total=False):
    """What a client may choose on opening; `Open` holds the defaults.

    sensor: the geometry of the events to come; by default the model's own.
    fit: what to do when it is not the model's: `reject`, `scale` or `crop`.
    encoding: `packed` for `send`; `evt2` or `evt3` for `send_raw`.
    report: how often to hear; after every tick by default.
    readout: what the scores average over; the whole session by default.
    clock_bits: the camera's timestamps wrap after 2^clock_bits µs; never by default.
    when_full: `block` waits in `send` while the server is behind; `drop-oldest` never
        waits, and lets go of the oldest events that wait, here or there.
    results: `latest` lets a newer result replace one that was not read yet.
    """

    sensor: Sensor | None
    fit: FitPolicy
    encoding: Encoding
    report: Report
    readout: ReadoutWindow
    clock_bits: int | None
    when_full: WhenFull
    results: Results


async def shake_hands(url: str, opening: Open) -> tuple[ClientConnection, Opened]:
    """Dial the server at `url` and open a session.

    Raises:
        ServerUnreachable: Nobody answers at `url`.
        RequestRefused: The server wants a key, or another one.
        StreamError: The server refused to open the session.
        ConnectionLost: The server hung up instead of answering.
        ValueError: `url` is no address of a server.
    """
    socket = await _dial(url)
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await socket.send(encode_client(opening))
            return socket, _expect_opened(await socket.recv())
    except TimeoutError:
        await socket.close()
        reason = f"no answer to `open` within {OPEN_TIMEOUT_S:g} s"
        raise ServerUnreachable(url, reason) from None
    except ConnectionClosed:
        lost = ConnectionLost(socket.close_code, socket.close_reason or "")
        raise lost from None
    except BaseException:
        await socket.close()
        raise


async def _dial(url: str) -> ClientConnection:
    address = stream_url(url)
    proxy: Literal[True] | None = None if is_loopback(url) else True
    try:
        return await connect_socket(
            address,
            compression=None,
            max_size=LARGEST_MESSAGE,
            open_timeout=OPEN_TIMEOUT_S,
            proxy=proxy,
            additional_headers=authorization(),
            ssl=trusted(address),
        )
    except InvalidStatus as error:
        raise _refused(url, error) from None
    except (OSError, TimeoutError, WebSocketException) as error:
        raise ServerUnreachable(url, str(error) or type(error).__name__) from error


def _refused(url: str, error: InvalidStatus) -> ServerUnreachable | RequestRefused:
    """Tell a server that wants a key from something that is no such server."""
    response = error.response
    try:
        problem = json.loads(response.body or b"")
        return RequestRefused(response.status_code, problem["code"], problem["detail"])
    except (ValueError, KeyError, TypeError):
        return ServerUnreachable(url, str(error))


def _expect_opened(data: str | bytes) -> Opened:
    try:
        message = decode_server(data)
    except ProtocolError as error:
        raise ConnectionLost(None, f"the server's answer is unclear: {error}") from None
    match message:
        case Opened():
            return message
        case ErrorMessage():
            raise stream_error(message)
    raise ConnectionLost(None, f"the server answered `open` with {message}")


# >>> merged from clients.reconnecting
# >>> """How long to wait before dialling again, and when to give up."""


@dataclass(frozen=True)
class Reconnecting:
    """Exponential backoff with jitter.

    Attributes:
        first_s: The first wait, on average twice this at most.
        most_s: The longest wait.
        give_up_s: How long to try, from the loss of the connection on; 0 never does.
    """

    first_s: float = 0.1
    most_s: float = 5.0
    give_up_s: float = 120.0

    def waits_s(self, at_least_s: float = 0.0) -> Iterator[float]:
        """Yield one wait after another, each drawn at random below a growing bound.

        So that a thousand clients of one server do not all come back at once.

        Args:
            at_least_s: What the server asked for, before the first attempt.
        """
        bound_s = self.first_s
        yield at_least_s + random.uniform(0, bound_s)
        while True:
            bound_s = min(2 * bound_s, self.most_s)
            yield random.uniform(bound_s / 2, bound_s)


RECONNECTING: Final = Reconnecting()
NEVER: Final = Reconnecting(give_up_s=0)


# >>> merged from clients.wire
# >>> """A session's socket, and the one task that reads it and dials again."""

Dial: TypeAlias = Callable[[], Awaitable[tuple[ClientConnection, Opened]]]
TEMPORARY: Final = frozenset(
    {"not_ready", "slots_exhausted", "too_many_sessions", "rate_exceeded"}
)
"""Refusals of a server that starts, or is full, or had enough, for the moment."""


class Wire:
    """Carry messages between a socket and a session.

    Whoever waits for something waits with `until`: it looks again after
    every message that comes in. A connection that is lost is made again, and
    what the server does not know is sent again, while everybody waits. One that the
    server closed since nothing was said is made again once there is something to say.

    Args:
        socket: The connection that the session was opened on.
        session: What is said on it.
        dial: How to come back.
        reconnecting: How often to try.
    """

    def __init__(
        self,
        socket: ClientConnection,
        session: Session,
        dial: Dial,
        reconnecting: Reconnecting,
    ) -> None:
        self._socket = socket
        self._session = session
        self._dial = dial
        self._reconnecting = reconnecting
        self._up = True
        self._left = False
        self._news = asyncio.Event()
        self._sending = asyncio.Lock()
        self._reader = asyncio.create_task(self._read())
        self._pumping: asyncio.Task[None] | None = None

    async def pump(self) -> None:
        """Send what the session has to say; while the connection is down, later."""
        if self._session.put_away:
            self._tell()
        async with self._sending:
            while self._up and (message := self._session.outgoing.next()) is not None:
                try:
                    await self._socket.send(encode_client(message))
                except ConnectionClosed:
                    break  # the reader knows why, and sends it again or gives up
        if self._session.opened.resume is None and self._socket.close_code is not None:
            await asyncio.shield(self._reader)

    async def push(self) -> None:
        """Send what the session has to say; a live one waits for nobody."""
        if not self._session.live:
            await self.pump()
            return
        if self._pumping is None or self._pumping.done():
            self._pumping = asyncio.create_task(self.pump())
        await asyncio.sleep(0)  # a turn for it

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the session holds, or the session is over."""
        while not condition() and not self._session.over:
            await self._news.wait()

    async def until_over(self, silence_s: float) -> None:
        """Wait until the session is over.

        Raises:
            TimeoutError: The server, though connected, said nothing for `silence_s`.
        """
        while not self._session.over:
            async with asyncio.timeout(silence_s if self._up else None):
                await self._news.wait()

    async def hang_up(self) -> None:
        """Close the socket for good, and wait for the reader's end."""
        self._left = True
        await self._socket.close()
        if not self._up:
            self._reader.cancel()
        tasks = [task for task in (self._reader, self._pumping) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._session.fail(ConnectionLost(1000, "hung up"))
        self._tell()

    async def _read(self) -> None:
        session = self._session
        while not session.over:
            await self._hear()
            if not session.over:
                self._up = False
                self._tell()
                await self._come_back()
            self._tell()

    async def _hear(self) -> None:
        """Take in messages until the connection ends."""
        try:
            async for data in self._socket:
                self._session.receive(decode_server(data), time.monotonic())
                self._tell()
        except ConnectionClosed:
            pass
        except ProtocolError as error:
            reason = f"the server sent no message: {error}"
            self._session.fail(ConnectionLost(None, reason))

    async def _come_back(self) -> None:
        """Dial until the session goes on, or it is over."""
        session, socket = self._session, self._socket
        lost = ConnectionLost(socket.close_code, socket.close_reason or "")
        if self._left or session.opened.resume is None:
            session.fail(lost)
            return
        while session.resting:
            await self._news.wait()
        give_up_s = time.monotonic() + self._reconnecting.give_up_s
        asked_s = 1e-3 * session.leaving.reconnect_after_ms if session.leaving else 0.0
        for wait_s in self._reconnecting.waits_s(asked_s):
            if time.monotonic() + wait_s > give_up_s:
                session.fail(lost)
                return
            await asyncio.sleep(wait_s)
            failure = await self._try()
            if failure is None:
                return
            if not _may_pass(failure):
                session.fail(failure)
                return

    async def _try(self) -> ClientError | None:
        """Dial once; return what went wrong."""
        try:
            self._socket, opened = await self._dial()
        except ClientError as error:
            return error
        self._session.resumed(opened)
        self._up = True
        # Not awaited: who sends must be read from, or both sides wait in the end.
        self._pumping = asyncio.create_task(self.pump())
        return None

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _may_pass(failure: ClientError) -> bool:
    """Tell whether another attempt may do better."""
    if isinstance(failure, StreamError):
        return failure.code in TEMPORARY
    return not isinstance(failure, RequestRefused)

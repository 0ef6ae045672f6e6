"""The websocket of a stream: the handshake that opens a session, and its connection."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

from websockets.asyncio.client import ClientConnection, connect as connect_websocket
from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidStatus,
    WebSocketException,
)

from saccade.clients.endpoint import (
    Address,
    is_loopback,
    stream_url,
    tls_context,
    with_advice,
)
from saccade.clients.errors import (
    ClientError,
    ConnectionLost,
    RequestRefused,
    ServerUnavailable,
    ServerUnreachable,
    stream_error,
)
from saccade.clients.placement import Finder
from saccade.clients.reconnecting import Attempts, Reconnecting
from saccade.clients.session import Session
from saccade.server.protocol.codec import decode_server, encode_client
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import ErrorMessage, GoAway, Open, Opened

LARGEST_MESSAGE: Final = 4 << 20
"""Bytes; a server's message holds one score a class, so this is ample."""
OPEN_TIMEOUT_S: Final = 20.0
PLACED: Final = "placed=true"
"""The query that tells a server that this client asks for placements."""
SILENCE_S: Final = 5.0
"""How long a server that owes an answer may be silent before it is asked for a sign."""
PONG_S: Final = 3.0
"""How long it may take to give one; then the client connects again."""
WATCH_S: Final = 0.5
UNAVAILABLE_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
"""HTTP answers of a busy server, of a gateway without one, and (500) of uvicorn that
stops during a handshake."""
UNAVAILABLE_CLOSES: Final = {
    1001: "it stops",
    1012: "it restarts",
    1013: "it is not ready or full",
}
"""Close codes with which a server turns new sessions away, and what they mean."""


async def open_session(
    finder: Finder, opening: Open, reconnecting: Reconnecting
) -> tuple[ClientConnection, Opened]:
    """Connect to a server and open a session; try again while it is busy.

    Raises what `connection.connect` does.
    """
    attempts = Attempts(reconnecting)
    while True:
        try:
            return await place_and_open(finder, opening)
        except ClientError as failure:
            await attempts.wait(failure)


async def place_and_open(
    finder: Finder, opening: Open
) -> tuple[ClientConnection, Opened]:
    """Find the server for a session, and open the session there, trying once."""
    address = await finder.find()
    try:
        return await shake_hands(address, opening)
    except ServerUnreachable as error:
        finder.failed(address)
        if not finder.reached:
            raise
        # It has just gone: the next attempt finds it again, or another of its fleet.
        raise ServerUnavailable(address.url, str(error)) from None


async def shake_hands(
    address: Address, opening: Open
) -> tuple[ClientConnection, Opened]:
    """Connect to the server at `address` and open a session, trying once."""
    websocket, url = await _connect(address), address.url
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await websocket.send(encode_client(opening))
            return websocket, _expect_opened(url, await websocket.recv())
    except TimeoutError:
        await websocket.close()
        reason = f"no answer to `open` within {OPEN_TIMEOUT_S:g} s"
        raise ServerUnreachable(url, reason) from None
    except ConnectionClosed:
        raise _closed_early(url, websocket) from None
    except BaseException:
        await websocket.close()
        raise


async def _connect(address: Address) -> ClientConnection:
    url = address.url
    stream = stream_url(url)
    if address.placed:
        stream += ("&" if "?" in stream else "?") + PLACED
    proxy: Literal[True] | None = None if is_loopback(url) else True
    try:
        return await connect_websocket(
            stream,
            compression=None,
            max_size=LARGEST_MESSAGE,
            open_timeout=OPEN_TIMEOUT_S,
            proxy=proxy,
            additional_headers=address.headers,
            ssl=tls_context(stream),
        )
    except InvalidStatus as error:
        raise _refused(url, error) from None
    except (OSError, TimeoutError, WebSocketException) as error:
        cut_off = isinstance(error, InvalidMessage) and isinstance(
            error.__cause__, EOFError
        )
        reason = str(error) or type(error).__name__
        raise ServerUnreachable(url, reason, cut_off=cut_off) from error


def _refused(url: str, error: InvalidStatus) -> ClientError:
    """Return the error of a handshake that was answered with another HTTP status."""
    response = error.response
    status = response.status_code
    try:
        problem = json.loads(response.body or b"")
        detail = with_advice(problem["detail"], status)
        refused = RequestRefused(status, problem["code"], detail)
    except (ValueError, KeyError, TypeError):
        refused = None
    if status in UNAVAILABLE_STATUSES:
        retry_after = response.headers.get("Retry-After", "")
        after_s = float(retry_after) if retry_after.isdecimal() else 0.0
        return ServerUnavailable(url, str(refused or error), after_s)
    return refused or ServerUnreachable(url, str(error))


def _closed_early(url: str, websocket: ClientConnection) -> ClientError:
    """Return the error of a websocket that closed before the server's first message."""
    code, reason = websocket.close_code, websocket.close_reason or ""
    if code in UNAVAILABLE_CLOSES:
        meaning = reason or UNAVAILABLE_CLOSES[code]
        return ServerUnavailable(url, f"{meaning} (close code {code})")
    return ConnectionLost(code, reason)


def _expect_opened(url: str, data: str | bytes) -> Opened:
    try:
        message = decode_server(data)
    except ProtocolError as error:
        raise ConnectionLost(None, f"the server's answer is unclear: {error}") from None
    match message:
        case Opened():
            return message
        case ErrorMessage():
            raise stream_error(message)
        case GoAway(reason, reconnect_after_ms):
            raise ServerUnavailable(url, reason, 1e-3 * reconnect_after_ms)
    raise ConnectionLost(None, f"the server answered `open` with `{message.type}`")


class Wire:
    """The websocket of one session: one task reads it, and connects again.

    A caller waits for a change of the session with `wait_for`, which looks again after
    every message. After a lost connection the wire connects again and sends what the
    server does not know, while callers wait. A connection that the server closed for
    silence is made again once there is something to send.
    """

    def __init__(
        self,
        websocket: ClientConnection,
        session: Session,
        finder: Finder,
        opening: Open,
        reconnecting: Reconnecting,
    ) -> None:
        self._websocket = websocket
        self._session = session
        self._finder, self._opening = finder, opening
        self._reconnecting = reconnecting
        self._connected = True
        self._aborted = False
        self._changed = asyncio.Event()
        self._sending = asyncio.Lock()
        self._reader = asyncio.create_task(self._read())
        self._sender: asyncio.Task[None] | None = None
        self._heard_s = time.monotonic()
        self._watcher = asyncio.create_task(self._watch())

    async def send_pending(self) -> None:
        """Send the log's unsent messages; without a connection, the reader does later.

        A session that cannot be resumed waits for the reader, which knows the reason.
        """
        if self._session.suspended:
            self._notify()
        async with self._sending:
            log = self._session.send_log
            while self._connected and (message := log.take_next()) is not None:
                try:
                    await self._websocket.send(encode_client(message))
                except ConnectionClosed:
                    break  # the reader sends it again, or ends the session
        if not self._session.resumable and self._websocket.close_code is not None:
            await asyncio.shield(self._reader)

    async def deliver(self) -> None:
        """Send the log's unsent messages; a session that drops events does not wait."""
        if not self._session.drops_oldest:
            await self.send_pending()
            return
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self.send_pending())
        await asyncio.sleep(0)  # so that the sender runs

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the session holds, or the session has ended."""
        while not condition() and not self._session.ended:
            await self._changed.wait()

    async def wait_until_ended(self, silence_s: float) -> None:
        """Wait for the session's end; TimeoutError after silence while connected."""
        while not self._session.ended:
            async with asyncio.timeout(silence_s if self._connected else None):
                await self._changed.wait()

    async def abort(self) -> None:
        """Close the websocket for good, and end the session where it has not ended."""
        self._aborted = True
        await self._websocket.close()
        if not self._connected:
            self._reader.cancel()
        self._watcher.cancel()
        owned = (self._reader, self._sender, self._watcher)
        tasks = [task for task in owned if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._session.fail(ConnectionLost(1000, "hung up"))
        self._notify()

    async def _read(self) -> None:
        session = self._session
        while not session.ended:
            await self._receive()
            if not session.ended:
                self._connected = False
                self._notify()
                await self._reconnect()
            self._notify()

    async def _receive(self) -> None:
        """Pass messages to the session until the connection ends."""
        try:
            async for data in self._websocket:
                self._heard_s = now_s = time.monotonic()
                self._session.receive(decode_server(data), now_s)
                self._notify()
        except ConnectionClosed:
            pass
        except ProtocolError as error:
            reason = f"the server sent no message: {error}"
            self._session.fail(ConnectionLost(None, reason))

    async def _watch(self) -> None:
        """Cut a connection whose server owes an answer and gives no sign of life.

        A server that was stopped, or whose network is gone, closes nothing. Time in
        which this program itself did not run counts for nothing.
        """
        while not self._session.ended:
            began_s = time.monotonic()
            await asyncio.sleep(WATCH_S)
            now_s = time.monotonic()
            if now_s - began_s > 2 * WATCH_S or not self._session.owed:
                self._heard_s = max(self._heard_s, now_s - WATCH_S)
            if self._connected and now_s - self._heard_s >= SILENCE_S:
                await self._ask_for_a_sign()

    async def _ask_for_a_sign(self) -> None:
        websocket = self._websocket
        try:
            async with asyncio.timeout(PONG_S):
                await (await websocket.ping())
        except TimeoutError:
            if websocket is self._websocket and self._connected:
                websocket.transport.abort()
        except ConnectionClosed:
            return
        self._heard_s = time.monotonic()

    async def _reconnect(self) -> None:
        """Resume the session on a new connection, or end it."""
        session, websocket = self._session, self._websocket
        lost = ConnectionLost(websocket.close_code, websocket.close_reason or "")
        if self._aborted or not session.resumable:
            session.fail(lost)
            return
        while session.idle:
            await self._changed.wait()
        goaway = session.goaway
        asked_s = 1e-3 * goaway.reconnect_after_ms if goaway else 0.0
        attempts = Attempts(self._reconnecting, lost)
        try:
            await attempts.wait(lost, asked_s)
            while (failure := await self._resume()) is not None:
                await attempts.wait(failure)
        except ClientError as final:
            session.fail(final)
        except BaseException:
            session.fail(lost)  # a caller's `on_wait` raised; no call waits for ever
            raise

    async def _resume(self) -> ClientError | None:
        """Connect once and resume the session; return what went wrong."""
        try:
            opening = replace(self._opening, resume=self._session.opened.resume)
            self._websocket, opened = await place_and_open(self._finder, opening)
        except ClientError as error:
            return error
        self._session.resume(opened)
        self._connected, self._heard_s = True, time.monotonic()
        # Not awaited: a server that sends is read meanwhile, or both sides would wait.
        self._sender = asyncio.create_task(self.send_pending())
        return None

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

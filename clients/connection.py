"""The asynchronous Python SDK: one websocket, one session.

async with connect("ws://127.0.0.1:8000", model="nmnist") as stream:
    await stream.send(events)
    async for result in stream:
        ...
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, Self, Unpack

from saccade.clients.errors import StreamClosed
from saccade.clients.frames import Payload, split_raw
from saccade.clients.session import DEFAULT_BOUNDS, Bounds, Session, StreamStats
from saccade.clients.transport import (
    RECONNECTING,
    Choices,
    Reconnecting,
    Wire,
    shake_hands,
)
from saccade.model.events.types import as_events
from saccade.server.protocol.messages import (
    ClientMessage,
    Close,
    Closed,
    Flush,
    Flushed,
    GoAway,
    Open,
    Opened,
    Reset,
    Result,
    WasReset,
)

SILENCE_S: Final = 20.0
"""How long a closing server may say nothing; one with work left acknowledges it."""


class Stream:
    """A session that is open: send events, receive scores.

    Made by `connect`. One task may send while another iterates. A slow
    consumer gets the newest results; how many it missed is in `traffic`.
    A frame that the server refuses leaves the session unharmed, and is
    raised from the next `send`, `flush` or `close`.

    A connection that is lost is made again, and the session goes on: nothing is
    raised, calls only take longer. `traffic.reconnects` counts.
    """

    def __init__(self, session: Session, wire: Wire) -> None:
        self._session = session
        self._wire = wire
        self._sending = asyncio.Lock()
        self._left = False
        self._told = False

    @property
    def opened(self) -> Opened:
        """What the server said at the start: labels, sensor, tick size, limits."""
        return self._session.opened

    @property
    def traffic(self) -> StreamStats:
        """What was sent and received so far, with the latencies of the results."""
        return self._session.traffic

    @property
    def start_us(self) -> int | None:
        """The caller's timestamp of `t_us` 0, once events were sent."""
        return self._session.start_us

    @property
    def closed(self) -> Closed | None:
        """The final scores, once the session has ended."""
        return self._session.closed

    @property
    def leaving(self) -> GoAway | None:
        """The server's word that it is about to stop."""
        return self._session.leaving

    async def send(self, events: Any) -> None:
        """Send events, waiting for as long as the server's window is full.

        With `when_full="drop-oldest"` never; `traffic` counts what was dropped.

        Args:
            events: A structured array with t (or timestamp, ts), x, y and p (or on,
                polarity), in time order; µs from any origin.

        Raises:
            StreamError: An earlier frame was refused (nothing of this call is
                sent then), or the session has failed.
            ConnectionLost: The connection ended.
        """
        records = as_events(events)
        self._raise_refusal()
        async with self._sending:
            for payload in self._session.payloads(records):
                await self._send_payload(payload)

    async def send_raw(self, data: bytes) -> None:
        """Forward a camera's own bytes to a stream opened as evt2 or evt3.

        Args:
            data: Whole words, without a file's header; any number of them.

        Raises:
            StreamError: The session has failed.
            ConnectionLost: The connection ended.
        """
        self._raise_refusal()
        async with self._sending:
            for payload in split_raw(data):
                await self._send_payload(payload)

    async def flush(self) -> Flushed:
        """Wait until everything sent is scored, and return the scores then.

        Raises:
            StreamError: A frame was refused, or the session has failed; after a
                refusal a second `flush` returns the scores.
            ConnectionLost: The connection ended.
        """
        self._raise_refusal()
        request = self._session.next_id()
        async with self._sending:
            await self._say(Flush(request))
        flushed = await self._answer(request)
        self._raise_refusal()
        assert isinstance(flushed, Flushed)
        return flushed

    async def reset(self) -> None:
        """Begin anew: no event so far counts, and time may start anywhere.

        Raises:
            StreamError: The session has failed.
            ConnectionLost: The connection ended.
        """
        request = self._session.next_id()
        async with self._sending:
            await self._say(Reset(request))
            await self._answer(request)

    async def close(self) -> Closed:
        """End the session and return the final scores.

        Raises:
            StreamError: A frame was refused that no call has told of yet (the
                final scores are in `closed`), or the session has failed.
            ConnectionLost: The connection ended before the final scores came.
        """
        if not self._left:
            self._left = True
            await self._say_goodbye()
        self._raise_refusal()
        if self._session.closed is None:
            self._raise_failure()
            raise StreamClosed
        return self._session.closed

    async def leave(self) -> None:
        """Close politely, and raise what no call has told the caller of yet."""
        if self._told:
            await self.hang_up()
        else:
            await self.close()

    async def hang_up(self) -> None:
        """Drop the connection without asking for final scores."""
        self._left = True
        await self._wire.hang_up()

    def received(self) -> list[Result]:
        """Take the results that have come, without waiting for more."""
        results = list(self._session.results)
        self._session.results.clear()
        return results

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            await self.leave()
        else:
            await self.hang_up()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        session = self._session
        await self._wire.until(lambda: bool(session.results))
        if session.results:
            return session.results.popleft()
        self._raise_failure()
        raise StopAsyncIteration

    async def _send_payload(self, payload: Payload) -> None:
        await self._wire.until(lambda: self._session.may_send(payload))
        self._raise_if_over()
        self._session.dispatch(payload, time.monotonic())
        await self._pump()

    async def _say(self, message: ClientMessage) -> None:
        self._raise_if_over()
        self._session.outgoing.say(message)
        await self._pump()

    async def _pump(self) -> None:
        await self._wire.push()
        self._raise_failure()

    async def _answer(self, request: int) -> Flushed | WasReset:
        answers = self._session.answers
        await self._wire.until(lambda: request in answers)
        if request not in answers:
            self._raise_if_over()
        return answers.pop(request)

    async def _say_goodbye(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_S), self._sending:
                self._session.outgoing.say(Close())
                await self._wire.pump()
            await self._wire.until_over(SILENCE_S)
        await self._wire.hang_up()

    def _raise_refusal(self) -> None:
        refusal = self._session.refusal()
        if refusal is not None:
            raise refusal

    def _raise_failure(self) -> None:
        if self._session.failure is not None:
            self._told = True
            raise self._session.failure

    def _raise_if_over(self) -> None:
        self._raise_failure()
        if self._left or self._session.closed is not None:
            raise StreamClosed


async def open_stream(
    url: str,
    *,
    model: str,
    bounds: Bounds = DEFAULT_BOUNDS,
    reconnecting: Reconnecting = RECONNECTING,
    **choices: Unpack[Choices],
) -> Stream:
    """Open a session that the caller will `leave`.

    Takes and raises what `connect` does.
    """
    opening = Open(model, **choices)
    socket, opened = await shake_hands(url, opening)
    session = Session(opening, opened, bounds)
    dial = partial(shake_hands, url, replace(opening, resume=opened.resume))
    return Stream(session, Wire(socket, session, dial, reconnecting))


@asynccontextmanager
async def connect(
    url: str,
    *,
    model: str,
    bounds: Bounds = DEFAULT_BOUNDS,
    reconnecting: Reconnecting = RECONNECTING,
    **choices: Unpack[Choices],
) -> AsyncIterator[Stream]:
    """Open a session, and close it politely on leaving.

    Args:
        url: Where the server is: `ws://127.0.0.1:8000`.
        model: The name of a served model.
        bounds: How much to hold on to; see `Bounds`.
        reconnecting: How to come back after a lost connection; `NEVER` does not.
        **choices: `sensor`, `fit`, `encoding`, `report`, `readout`, `clock_bits`,
            `when_full`, `results`: see `Choices`.

    Raises:
        ServerUnreachable: Nobody answers at `url`.
        StreamError: The server refused to open the session.
        ConnectionLost: The server hung up instead of answering.
    """
    opening = open_stream(
        url, model=model, bounds=bounds, reconnecting=reconnecting, **choices
    )
    async with await opening as stream:
        yield stream

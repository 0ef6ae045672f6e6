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
from functools import partial
from typing import Any, Final, Self, TypedDict, Unpack

from saccade.clients.conversion import (
    ReadoutLike,
    ReportLike,
    SensorLike,
    to_readout,
    to_report,
    to_sensor,
)
from saccade.clients.endpoint import Address
from saccade.clients.errors import InvalidChoice, StreamClosed, WrongEncoding
from saccade.clients.frames import Payload, split_raw
from saccade.clients.placement import Finder
from saccade.clients.reconnecting import DEFAULT_RECONNECTING, Reconnecting
from saccade.clients.session import DEFAULT_BOUNDS, Bounds, Session, SessionView
from saccade.clients.transport import Wire, open_session
from saccade.model.events.fit import Fit
from saccade.model.events.tolerance import Invalid, Sorter
from saccade.model.events.types import Events
from saccade.server.protocol.messages import (
    ClientMessage,
    Close,
    Closed,
    Encoding,
    Flush,
    Flushed,
    Open,
    Reset,
    Result,
    Results,
    WasReset,
    WhenFull,
)

SILENCE_S: Final = 20.0
"""How long a closing server may be silent; one with work left acknowledges."""
LIVE_LAG_MS: Final = 100
"""How old an event of a live source may be when it is scored, unless chosen, ms."""


class Choices(TypedDict, total=False):
    """Options of a new session; `Open` holds the defaults.

    sensor: the geometry of the events to come; by default the model's own. A `Sensor`,
        `(width, height)` or `"640x480"`.
    fit: what to do where it is not the model's: `reject`, `scale` or `crop`.
    encoding: `packed` for `send`; `evt2`, `evt21` or `evt3` for `send_raw`.
    report: which ticks send a result; every tick by default. A `Report`, `"tick"`,
        `("ms", 100)` or `{"every": "ms", "n": 100}`.
    readout: what the scores average over; the whole session by default. A
        `ReadoutWindow`, or `("half_life", 300)`.
    clock_bits: the camera's timestamps wrap after 2^clock_bits µs; never by default.
    when_full: `block` waits in `send` while the server is behind; `drop-oldest` never
        waits, and drops the oldest events that wait, here or at the server.
    results: `latest` lets a newer result replace one that was not read yet.
    max_lag_ms: how old an event may be when it is scored; the server keeps that by
        credit or, with `drop-oldest`, by dropping. 100 ms with `drop-oldest` by
        default, otherwise None: no bound.
    invalid: `reject` refuses a frame that holds an event outside the sensor or out of
        order; `skip` leaves the event out, and `stats.skipped_events` counts it.
    sort_within_us: events that are late by no more are put in order here, before they
        are sent; the newest wait for that long in the events' own time, or for `flush`.
    resume: the token (`stream.opened.resume`) of a session that another process began,
        with the same choices; this stream goes on with it.
    """

    sensor: SensorLike | None
    fit: Fit
    encoding: Encoding
    report: ReportLike
    readout: ReadoutLike
    clock_bits: int | None
    when_full: WhenFull
    results: Results
    max_lag_ms: int | None
    invalid: Invalid
    sort_within_us: int
    resume: str | None


def opening_of(model: str, choices: Choices) -> Open:
    """Return the first message of a session.

    Raises:
        InvalidChoice: A choice is not one that `Choices` names.
    """
    unknown = choices.keys() - Choices.__annotations__.keys()
    if unknown:
        known = ", ".join(Choices.__annotations__)
        raise InvalidChoice(min(unknown), f"is no choice of `connect`: {known}")
    fields: dict[str, Any] = {**choices}
    fields.pop("sort_within_us", None)  # is done here
    if fields.get("when_full") == "drop-oldest":
        fields.setdefault("max_lag_ms", LIVE_LAG_MS)
    convert = {"sensor": to_sensor, "report": to_report, "readout": to_readout}
    for name, converted in convert.items():
        if fields.get(name) is not None:
            fields[name] = converted(fields[name])
    return Open(model, **fields)


class Stream(SessionView):
    """An open session: send events, receive scores.

    Made by `connect`. One task may send while another iterates. A slow
    consumer gets the newest results; `stats` counts those it missed.
    A frame that the server refuses leaves the session unharmed; the refusal is
    raised from the next `send`, `flush` or `close`, and once from the iteration, where
    there is one, so that neither of two tasks waits for the other in vain.

    After a lost connection the stream connects again and the session goes on:
    nothing is raised, calls only take longer. `stats.reconnects` counts.
    """

    def __init__(self, session: Session, wire: Wire, sort_within_us: int = 0) -> None:
        self._session = session
        self._wire = wire
        self._sorter = Sorter(sort_within_us)
        self._sending = asyncio.Lock()
        self._closing = False
        self._failure_raised = False

    async def send(self, events: Any) -> None:
        """Send events, waiting while the server's window is full.

        With `when_full="drop-oldest"` it never waits; `stats` counts what was dropped.

        Args:
            events: A structured array, shape (n,), with t (or timestamp, ts), x, y and
                p (or on, polarity), in time order; t in µs from any origin. Or a data
                frame or a dict of such columns, or a list of `(t, x, y, p)`.

        Raises:
            EventsError: The argument holds no events, or such as the wire cannot hold.
            WrongEncoding: The stream was opened for raw words.
            StreamError: An earlier frame was refused (nothing of this call is
                sent then), or the session has failed.
            ConnectionLost: The connection ended.
        """
        if self._session.encoding != "packed":
            raise WrongEncoding(self._session.encoding)
        records = self._session.convert(events)
        self._raise_refusal()
        async with self._sending:
            await self._send_events(self._sorter.take(records))

    async def send_raw(self, data: bytes) -> None:
        """Forward a camera's own bytes to a stream opened in its encoding.

        Args:
            data: Whole words, without a file's header; any number of them.

        Raises:
            WrongEncoding: The stream was opened for events.
            StreamError: The session has failed.
            ConnectionLost: The connection ended.
        """
        if self._session.encoding == "packed":
            raise WrongEncoding(self._session.encoding)
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
        request = self._session.new_request()
        async with self._sending:
            await self._send_events(self._sorter.rest())
            await self._send_message(Flush(request))
        flushed = await self._reply(request)
        self._raise_refusal()
        assert isinstance(flushed, Flushed)
        return flushed

    async def reset(self) -> None:
        """Begin anew: no event so far counts, and time may start anywhere.

        Raises:
            StreamError: The session has failed.
            ConnectionLost: The connection ended.
        """
        request = self._session.new_request()
        async with self._sending:
            self._sorter.rest()  # is forgotten with all before
            await self._send_message(Reset(request))
            await self._reply(request)

    async def close(self) -> Closed:
        """End the session and return the final scores.

        Raises:
            StreamError: A frame was refused and no call has raised that yet (the
                final scores are in `closed`), or the session has failed.
            ConnectionLost: The connection ended before the final scores came.
        """
        if not self._closing:
            self._closing = True
            await self._close_session()
        self._raise_refusal()
        if self._session.closed is None:
            self._raise_failure()
            raise StreamClosed
        return self._session.closed

    async def finish(self) -> None:
        """Close the session, and raise a failure that no call has raised yet."""
        if self._failure_raised:
            await self.abort()
        else:
            await self.close()

    async def abort(self) -> None:
        """Drop the connection without asking for final scores."""
        self._closing = True
        await self._wire.abort()

    def received(self) -> list[Result]:
        """Return the results that have come, without waiting for more."""
        results = list(self._session.results)
        self._session.results.clear()
        return results

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            await self.finish()
        else:
            await self.abort()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        session = self._session
        await self._wire.wait_for(lambda: session.readable)
        if session.results:
            return session.results.popleft()
        refusal = session.take_refusal_to_iterate()
        if refusal is not None:
            raise refusal
        self._raise_failure()
        raise StopAsyncIteration

    async def _send_events(self, events: Events) -> None:
        for payload in self._session.payloads(events):
            await self._send_payload(payload)

    async def _send_payload(self, payload: Payload) -> None:
        await self._wire.wait_for(lambda: self._session.may_send(payload))
        self._raise_if_ended()
        self._session.dispatch(payload, time.monotonic())
        await self._deliver()

    async def _send_message(self, message: ClientMessage) -> None:
        self._raise_if_ended()
        self._session.send_log.append(message)
        await self._deliver()

    async def _deliver(self) -> None:
        await self._wire.deliver()
        self._raise_failure()

    async def _reply(self, request: int) -> Flushed | WasReset:
        replies = self._session.replies
        await self._wire.wait_for(lambda: request in replies)
        if request not in replies:
            self._raise_if_ended()
        return replies.pop(request)

    async def _close_session(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_S), self._sending:
                await self._send_rest()
                self._session.send_log.append(Close())
                await self._wire.send_pending()
            await self._wire.wait_until_ended(SILENCE_S)
        await self._wire.abort()

    async def _send_rest(self) -> None:
        """Send the events that waited to be sorted, unless the session has ended."""
        for payload in self._session.payloads(self._sorter.rest()):
            await self._wire.wait_for(partial(self._session.may_send, payload))
            if self._session.ended:
                return
            self._session.dispatch(payload, time.monotonic())
            await self._wire.deliver()

    def _raise_refusal(self) -> None:
        refusal = self._session.take_refusal()
        if refusal is not None:
            raise refusal

    def _raise_failure(self) -> None:
        if self._session.failure is not None:
            self._failure_raised = True
            raise self._session.failure

    def _raise_if_ended(self) -> None:
        self._raise_failure()
        if self._closing or self._session.closed is not None:
            raise StreamClosed


async def open_stream(
    url: str,
    *,
    model: str,
    bounds: Bounds = DEFAULT_BOUNDS,
    reconnecting: Reconnecting = DEFAULT_RECONNECTING,
    key: str | None = None,
    wait_for_server_s: float | None = None,
    **choices: Unpack[Choices],
) -> Stream:
    """Open a session that the caller ends with `finish` or `abort`.

    Takes and raises what `connect` does.
    """
    opening = opening_of(model, choices)
    address = Address(url, key)
    waiting = reconnecting.at_first(wait_for_server_s)
    finder = Finder(address, model)
    websocket, opened = await open_session(finder, opening, waiting)
    session = Session(opening, opened, bounds)
    wire = Wire(websocket, session, finder, opening, reconnecting)
    await wire.wait_for(lambda: session.caught_up)
    return Stream(session, wire, choices.get("sort_within_us", 0))


@asynccontextmanager
async def connect(
    url: str,
    *,
    model: str,
    bounds: Bounds = DEFAULT_BOUNDS,
    reconnecting: Reconnecting = DEFAULT_RECONNECTING,
    key: str | None = None,
    wait_for_server_s: float | None = None,
    **choices: Unpack[Choices],
) -> AsyncIterator[Stream]:
    """Open a session, and close it on leaving the context.

    While the server starts, stops or is full, opening waits and tries again.

    Args:
        url: The server's address: `ws://127.0.0.1:8000`.
        model: The name of a served model.
        bounds: How much to keep in memory; see `Bounds`.
        reconnecting: How long to try while the server is busy, and after a lost
            connection; `NEVER` raises at once.
        key: The API key, where the server asks for one; by default that of the
            environment's SACCADE_KEY.
        wait_for_server_s: How long to wait for a server that does not answer yet, s; by
            default one that nothing reaches is an error at once.
        **choices: See `Choices`.

    Raises:
        ServerUnreachable: No Saccade server answers at `url`.
        ServerUnavailable: It starts or stops, for longer than `reconnecting` waits.
        StreamError: The server refused to open the session.
        RequestRefused: The server asks for a key, or for another one.
        ConnectionLost: The server closed the connection instead of answering.
        InvalidChoice: `url` is no address of a server, or a choice is none.
    """
    opening = open_stream(
        url,
        model=model,
        bounds=bounds,
        reconnecting=reconnecting,
        key=key,
        wait_for_server_s=wait_for_server_s,
        **choices,
    )
    async with await opening as stream:
        yield stream

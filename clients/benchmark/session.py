"""One session of a load: a socket that sends frames made before, and times the answers.

It keeps within its credit as docs/protocol.md says. In an open loop a frame is sent
when it is due, or as soon after as credit and socket allow; without a rate, as soon as
these allow.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import msgpack

from saccade.clients.benchmark import wire
from saccade.clients.benchmark.frames import Frames
from saccade.clients.benchmark.measured import Account, Cut, Measured, open_loop
from saccade.clients.endpoint import authorization, stream_url, tls_context
from saccade.clients.errors import (
    ClientError,
    ConnectionLost,
    RequestRefused,
    ServerUnreachable,
    stream_error,
)
from saccade.server.protocol.messages import ErrorMessage

OPEN_TIMEOUT_S: Final = 60.0
FLUSH_EVERY_S: Final = 0.1
FLUSHING: Final = {"every": "flush"}


@dataclass(frozen=True)
class Plan:
    """One run of a load.

    Attributes:
        start_s: When it starts, by the clock of `time.monotonic`, which the processes
            of a machine share.
        seconds: How long frames are sent.
        grace_s: How long the last scores may take after that.
    """

    start_s: float
    seconds: float
    grace_s: float


@dataclass(frozen=True)
class Load:
    """What each session of a load sends.

    Attributes:
        opening: The fields of its `open` message.
        frame_events: Events a frame.
        rate: Events per second of each sensor; None for full speed.
        most_events: Events that a session has under way, at most; its credit may
            allow fewer.
        held_back: Events that must follow a tick's last before the tick is scored.
    """

    opening: Mapping[str, Any]
    frame_events: int
    rate: float | None = None
    most_events: int = 1 << 18
    held_back: int = 0

    @property
    def every_tick(self) -> bool:
        """Whether a result a tick is asked for."""
        return bool(self.opening.get("report", {"every": "tick"}) == {"every": "tick"})

    @property
    def flushing(self) -> bool:
        """Whether scores come for flushes only."""
        return bool(self.opening.get("report") == FLUSHING)

    @property
    def keeps_credit(self) -> bool:
        """Whether the client keeps within its credit: a live source need not."""
        return bool(self.opening.get("when_full", "block") == "block")


@dataclass
class Credit:
    """What the server granted, and how much of it is in use."""

    window_events: int = 0
    window_bytes: int = 0
    acked_events: int = 0
    acked_bytes: int = 0
    sent_events: int = 0
    sent_bytes: int = 0

    def allows(self, events: int, size: int, most_events: int) -> bool:
        """Return whether a frame may be sent now; one alone always may."""
        under_way = self.sent_events - self.acked_events
        if not under_way:
            return True
        window = min(self.window_events, most_events)
        fits = self.sent_bytes - self.acked_bytes + size <= self.window_bytes
        return fits and under_way + events <= window


@dataclass
class _Run:
    """The run under way."""

    plan: Plan
    account: Account
    measured: Measured
    due_s: list[float] | None
    done: asyncio.Future[None]
    next: int = 0
    woken_s: float = 0.0
    """When the next look for a frame that is due is to happen, as far as arranged."""
    flush_s: float | None = None
    handles: list[asyncio.TimerHandle] = field(default_factory=list)


class LoadSession(asyncio.Protocol):
    """A session; `connect` opens it, `run` sends and measures, `close` ends it.

    Args:
        load: What it sends.
        frames: The frames.
        place: Its place among the load's sessions, whose frames are due in turn.
        of: The number of the load's sessions.
    """

    def __init__(self, load: Load, frames: Frames, place: int = 0, of: int = 1) -> None:
        self._load = load
        self._frames = frames
        self._place, self._of = place, of
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._closed: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._key = wire.new_key()
        self._handshake: bytes | None = b""
        self._parser = wire.FrameParser()
        self._credit = Credit()
        self._number = 0
        self._writable = True
        self._failure: Exception | None = None
        self._run: _Run | None = None
        self._dropped = 0
        self._newest: dict[str, Any] | None = None
        self._results = self._dropped_before = 0
        self.opened: dict[str, Any] = {}

    @classmethod
    async def connect(
        cls, url: str, load: Load, frames: Frames, place: int = 0, of: int = 1
    ) -> LoadSession:
        """Open a session.

        Raises:
            ClientError: No server answers, or it refuses the session.
        """
        address = stream_url(url)
        parts = urlsplit(address)
        context = tls_context(address)
        port = parts.port or (443 if context else 80)
        session = cls(load, frames, place, of)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await session._dial(parts.hostname or "", port, context)
                request = wire.request(address, session._key, authorization())
                session._transport.write(request)
                session.opened = await session._opened
        except (OSError, TimeoutError) as error:
            session.abort()
            reason = str(error) or f"no answer within {OPEN_TIMEOUT_S:g} s"
            raise ServerUnreachable(url, reason) from None
        except BaseException:
            session.abort()
            raise
        return session

    async def _dial(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        await self._loop.create_connection(lambda: self, host, port, ssl=tls)

    async def run(self, plan: Plan) -> Measured:
        """Send frames for as long as planned, and wait for their scores."""
        measured = Measured(sessions=1)
        cut = Cut(
            self._load.frame_events,
            self.opened["tick_events"],
            self._load.held_back,
            self._load.every_tick,
        )
        account = Account(measured, cut, self._number, self._dropped)
        before = self._dropped
        due_s = self._due_s(plan)
        run = _Run(plan, account, measured, due_s, self._loop.create_future())
        self._run = run
        self._at(plan.start_s, self._pump)
        if self._load.flushing:
            self._at(plan.start_s + FLUSH_EVERY_S, self._flush)
        self._at(plan.start_s + plan.seconds, self._settle)
        try:
            if self._failure is None:
                async with asyncio.timeout_at(
                    plan.start_s + plan.seconds + plan.grace_s
                ):
                    await run.done
        except TimeoutError:
            measured.unsettled = 1
            self._count_missed(run)
        finally:
            for handle in run.handles:
                handle.cancel()
            self._run = None
        now_s = self._loop.time()
        measured.elapsed_s = now_s - plan.start_s
        account.end(now_s)
        measured.dropped = self._dropped - before
        if self._failure is not None:
            measured.lost.append(str(self._failure))
        return measured

    def send(self) -> None:
        """Send the next frame at once, outside of a run."""
        self._send_frame()

    async def close(self, timeout_s: float = OPEN_TIMEOUT_S) -> dict[str, Any] | None:
        """End the session; return `closed`, or None where it never came."""
        if self._failure is None:
            self._send(msgpack.packb({"type": "close"}))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._closed
        except (TimeoutError, ClientError):
            return None
        finally:
            self.abort()

    @property
    def sent_events(self) -> int:
        """Events sent since the session began."""
        return self._credit.sent_events

    def abort(self) -> None:
        """Drop the connection."""
        for future in (self._opened, self._closed):
            future.cancel()
        if hasattr(self, "_transport"):
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def pause_writing(self) -> None:
        """Send nothing more while the socket is full."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on."""
        self._writable = True
        self._pump()

    def data_received(self, data: bytes) -> None:
        """Take the server's bytes."""
        try:
            if self._handshake is not None:
                self._handshake += data
                end = wire.read_response(self._handshake, self._key)
                if end is None:
                    return
                data, self._handshake = self._handshake[end:], None
                self._send(msgpack.packb({"type": "open", **self._load.opening}))
            for frame in self._parser.feed(data):
                self._receive(frame)
            self._count_results()
        except wire.Refused as error:
            self._fail(RequestRefused(error.status, None, str(error)))
        except (wire.BadFrame, ValueError, KeyError) as error:
            self._fail(ConnectionLost(None, f"the server's answer is unclear: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits."""
        reason = "" if exc is None else str(exc)
        self._fail(ConnectionLost(None, reason or "the server closed the connection"))

    # What comes.

    def _receive(self, frame: wire.Frame) -> None:
        if frame.opcode in {wire.BINARY, wire.TEXT}:
            message = msgpack.unpackb(frame.payload)
            if message["type"] == "result":
                self._on_result(message)
                return
            self._count_results()
            handler = _HANDLERS.get(message["type"])
            if handler is not None:
                handler(self, message)
        elif frame.opcode == wire.PING:
            self._transport.write(wire.masked(wire.PONG, frame.payload))
        elif frame.opcode == wire.CLOSE:
            code = int.from_bytes(frame.payload[:2], "big") or None
            reason = frame.payload[2:].decode(errors="replace")
            self._fail(ConnectionLost(code, reason))

    def _on_opened(self, message: dict[str, Any]) -> None:
        self._credit.window_events = message["window_events"]
        self._credit.window_bytes = message["window_bytes"]
        if not self._opened.done():
            self._opened.set_result(message)

    def _on_result(self, message: dict[str, Any]) -> None:
        """Take a result; those that come together are counted together.

        One by one they would cost the load more than all that it sends.
        """
        dropped = message.get("dropped") or 0
        if dropped != self._dropped_before or not self._load.every_tick:
            self._count_results()
        self._dropped_before = dropped
        self._newest = message
        self._results += 1

    def _count_results(self) -> None:
        """Count the results that have come and are not counted."""
        message, results = self._newest, self._results
        self._newest, self._results = None, 0
        if self._run is not None and message is not None:
            measured, dropped = self._run.measured, self._dropped_before
            measured.results += results
            if not self._load.every_tick:  # else the ticks tell
                measured.left_out += message.get("superseded") or 0
            events, now_s = message["events"] + dropped, self._loop.time()
            self._run.account.scored(events, now_s, dropped, results)
            self._settle()

    def _on_ack(self, message: dict[str, Any]) -> None:
        credit = self._credit
        credit.acked_events, credit.acked_bytes = message["events"], message["bytes"]
        credit.window_events = message.get("window_events") or credit.window_events
        self._dropped = message.get("dropped") or 0
        if self._run is not None:
            now_s = self._loop.time()
            self._run.account.acked(message["events"], now_s, self._dropped)
            lag_ms = message.get("lag_ms")
            if lag_ms is not None:
                measured = self._run.measured
                measured.server_lag_s = max(measured.server_lag_s or 0.0, 1e-3 * lag_ms)
            self._pump()
            self._settle()

    def _on_flushed(self, message: dict[str, Any]) -> None:
        run = self._run
        if run is not None and run.flush_s is not None:
            now_s = self._loop.time()
            run.measured.results += 1
            run.measured.latency.add(now_s - run.flush_s)
            run.measured.from_sent.add(now_s - run.flush_s)
            self._at(max(run.flush_s + FLUSH_EVERY_S, now_s), self._flush)
            run.flush_s = None
            self._settle()

    def _on_closed(self, message: dict[str, Any]) -> None:
        if not self._closed.done():
            self._closed.set_result(message)

    def _on_error(self, message: dict[str, Any]) -> None:
        known = {name: message.get(name) for name in ("seq", "field", "index", "value")}
        error = ErrorMessage(
            message["code"], message["message"], message["fatal"], **known
        )
        if message["fatal"]:
            self._fail(stream_error(error))
        elif self._run is not None:
            self._run.measured.refused += 1

    def _fail(self, error: Exception) -> None:
        """Record why the session ended, and wake whoever waits."""
        if self._closed.done() or self._failure is not None:
            return
        self._failure = error
        if not self._opened.done():
            self._opened.set_exception(error)
        self._closed.set_exception(error)
        self._closed.exception()  # seen: close may never be called
        if self._run is not None and not self._run.done.done():
            self._run.done.set_result(None)

    # What goes.

    def _due_s(self, plan: Plan) -> list[float] | None:
        """Return when each frame of a run is due; None without a rate."""
        if self._load.rate is None:
            return None
        frame_s = self._load.frame_events / self._load.rate
        schedule = open_loop(plan.start_s, plan.seconds, frame_s, self._place, self._of)
        return [schedule.due_s(frame) for frame in range(schedule.frames)]

    def _at(self, when_s: float, call: Any) -> None:
        assert self._run is not None
        self._run.handles = [
            h for h in self._run.handles if h.when() > self._loop.time()
        ]
        self._run.handles.append(self._loop.call_at(when_s, call))

    def _pump(self) -> None:
        """Send every frame that is due and allowed."""
        run = self._run
        if run is None or self._failure is not None:
            return
        while self._may_send() and (due_s := self._next_due_s(run)) is not None:
            now_s = self._loop.time()
            if due_s > now_s:
                if run.woken_s != due_s:
                    run.woken_s = due_s
                    self._at(due_s, self._pump)
                return
            run.account.sent(due_s if run.due_s is not None else now_s, now_s)
            run.next += 1
            self._send_frame()

    def _next_due_s(self, run: _Run) -> float | None:
        """Return when the next frame is due; None where there is none."""
        if run.due_s is not None:
            return run.due_s[run.next] if run.next < len(run.due_s) else None
        now_s = self._loop.time()
        over = now_s >= run.plan.start_s + run.plan.seconds
        return None if over else max(now_s, run.plan.start_s)

    def _may_send(self) -> bool:
        if not self._writable:
            return False
        load, size = self._load, self._frames.size
        return not load.keeps_credit or self._credit.allows(
            load.frame_events, size, load.most_events
        )

    def _send_frame(self) -> None:
        self._send(self._frames.message(self._number))
        self._number += 1
        self._credit.sent_events += self._load.frame_events
        self._credit.sent_bytes += self._frames.size

    def _send(self, message: bytes) -> None:
        self._transport.write(wire.masked(wire.BINARY, message))

    def _flush(self) -> None:
        run = self._run
        if run is None or run.flush_s is not None or self._sending_over(run):
            return
        run.flush_s = self._loop.time()
        self._send(msgpack.packb({"type": "flush", "id": self._number}))

    def _sending_over(self, run: _Run) -> bool:
        if run.due_s is not None:
            return run.next >= len(run.due_s)
        return self._loop.time() >= run.plan.start_s + run.plan.seconds

    def _settle(self) -> None:
        """End the run once all that was to be sent is sent, and all of it is scored."""
        run = self._run
        if run is None or run.done.done() or not self._sending_over(run):
            return
        all_acked = self._credit.acked_events == self._credit.sent_events
        if all_acked and run.flush_s is None and run.account.complete:
            run.done.set_result(None)

    def _count_missed(self, run: _Run) -> None:
        """Count the frames that were due and never sent."""
        for due_s in (run.due_s or [])[run.next :]:
            run.account.missed(due_s)


_HANDLERS: Final = {
    "opened": LoadSession._on_opened,
    "ack": LoadSession._on_ack,
    "flushed": LoadSession._on_flushed,
    "closed": LoadSession._on_closed,
    "error": LoadSession._on_error,
}

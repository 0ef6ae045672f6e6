"""The reader processes of one server process: started when needed, ended when idle."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgpack

from saccade.model.events.errors import MalformedRecording
from saccade.model.events.sensor import Sensor
from saccade.model.tokens import TimedTokens
from saccade.server.logs import about
from saccade.server.reading.frames import (
    DONE,
    EVENTS,
    OPENED,
    Facts,
    ReadRequest,
    error_from_plain,
    tokens_from_bytes,
)
from saccade.server.reading.process import ReaderFailed, ReaderProcess

LOG: Final = logging.getLogger(__name__)

COUNT: Final = 2
"""Reader processes at one time; other recordings wait for theirs."""
FRAME_S: Final = 120.0
"""How long a reader may take from one frame to the next: a scan of the whole file,
where it does not say its geometry."""
IDLE_S: Final = 60.0
AHEAD: Final = 2
"""Chunks of one recording that are read before they are scored."""


class Reading:
    """One recording while it is read.

    Attributes:
        sensor: The recording's geometry; known once its first events are there.
        facts: What was met in it; complete once all events were read.
        failure: Why it cannot be read further, if it cannot.
        begun: Set once there is something to take.
    """

    def __init__(self) -> None:
        self.sensor: Sensor | None = None
        self.facts = Facts()
        self.failure: Exception | None = None
        self.begun = asyncio.Event()
        self._ready: asyncio.Queue[TimedTokens | None] = asyncio.Queue(AHEAD)

    async def put(self, chunk: TimedTokens | None) -> None:
        """Pass on what was read; None is the end. Waits while much lies ready."""
        self.begun.set()
        await self._ready.put(chunk)

    async def chunks(self) -> AsyncIterator[TimedTokens]:
        """Yield the recording's events as tokens of the model.

        Raises:
            EventsError: It cannot be read, or its events do not pass.
        """
        while (chunk := await self._ready.get()) is not None:
            yield chunk
        if self.failure is not None:
            raise self.failure


class Readers:
    """Lends reader processes to recordings.

    Args:
        count: Processes at one time.
        frame_s: See `FRAME_S`.
        idle_s: Seconds after which an idle process ends.
    """

    def __init__(
        self, count: int = COUNT, frame_s: float = FRAME_S, idle_s: float = IDLE_S
    ) -> None:
        self._free = asyncio.Semaphore(count)
        self._frame_s = frame_s
        self._idle_s = idle_s
        self.idle: deque[ReaderProcess] = deque()
        """Processes that wait for a recording."""
        self._timer: asyncio.TimerHandle | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def reading(
        self, requests: Sequence[ReadRequest]
    ) -> AsyncIterator[list[Reading]]:
        """Read recordings in order, a little ahead of their use, in one process."""
        readings = [Reading() for _ in requests]
        task = asyncio.create_task(self._read(requests, readings))
        try:
            yield readings
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """End the idle processes; a busy one ends with the task that reads."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self.idle:
            await self.idle.pop().end(at_once=True)
        await asyncio.gather(*self._retiring)

    async def _read(
        self, requests: Sequence[ReadRequest], readings: Sequence[Reading]
    ) -> None:
        waiting = deque(zip(requests, readings, strict=True))
        while waiting:
            try:
                await self._read_while_well(waiting)
                return
            except ReaderFailed as error:  # which costs the recording that it read
                LOG.warning("not read: a recording; %s", error, extra=about("not_read"))
                failure: Exception = MalformedRecording(Path(), str(error))
            except Exception as error:  # the task that scores raises it
                failure = error
            _, reading = waiting.popleft()
            reading.failure = failure
            await reading.put(None)

    async def _read_while_well(
        self, waiting: deque[tuple[ReadRequest, Reading]]
    ) -> None:
        """Read recordings in one process; those that were read leave the queue.

        Raises:
            ReaderFailed: The process failed at the first that is left.
        """
        async with self._process() as process:
            process.send(b"".join(request.encode() for request, _ in waiting))
            while waiting:
                await self._receive(process, *waiting[0])
                _, reading = waiting.popleft()
                await reading.put(None)

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[ReaderProcess]:
        """Lend a process; one that has not come to a recording's end is ended."""
        async with self._free:
            process = self.idle.pop() if self.idle else None
            if process is None or not process.running:
                process = await ReaderProcess.start()
            try:
                yield process
            except BaseException:
                await process.end(at_once=True)
                raise
            self.idle.append(process)
            if self._timer is None:
                self._end_idle_later()

    def _end_idle_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._idle_s, self._end_idle)

    def _end_idle(self) -> None:
        """End the process that has been idle for longest; the next one later."""
        self._timer = None
        if self.idle:
            task = asyncio.create_task(self.idle.popleft().end(at_once=False))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
            self._end_idle_later()

    async def _receive(
        self, process: ReaderProcess, request: ReadRequest, reading: Reading
    ) -> None:
        """Receive the answer of a process to its next request.

        Raises:
            ReaderFailed: The process does not answer as it should.
        """
        while True:
            kind, content = await process.frame(self._frame_s)
            try:
                if kind == EVENTS:
                    chunk = tokens_from_bytes(content, request.target.num_tokens)
                elif kind == OPENED:
                    reading.sensor = Sensor.from_list(msgpack.unpackb(content))
                    continue
                elif kind == DONE:
                    reading.facts = Facts.decode(content)
                    return
                else:
                    reading.failure = error_from_plain(msgpack.unpackb(content))
                    return
            except MALFORMED as error:
                raise ReaderFailed(
                    f"its reader's answer is malformed: {error}"
                ) from error
            await reading.put(chunk)


MALFORMED: Final = (ValueError, TypeError, KeyError, msgpack.UnpackException)

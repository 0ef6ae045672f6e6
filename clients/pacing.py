"""Events cut into frames, and played at the pace of their timestamps."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

import numpy as np

from saccade.clients.arrivals import Arrivals
from saccade.model.events.types import Events

AS_FAST_AS_POSSIBLE: Final = math.inf
IDLE_S: Final = 0.1
"""How long a thread waits for a silent source before it looks up."""


class Batch(NamedTuple):
    """When a frame of arriving events is sent: after so long, or with so many."""

    latency_s: float
    events: int


class RawFrame(NamedTuple):
    """A camera's own bytes, with the events in them, which only tell the time."""

    data: bytes
    events: Events


class Clock(NamedTuple):
    """A source of time: the present moment, s, and a way to wait."""

    now_s: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


WALL_CLOCK: Final = Clock(time.monotonic, asyncio.sleep)


class Pacer:
    """The time until each event is due, at `speed` sensor seconds a second."""

    def __init__(self, speed: float) -> None:
        if not speed > 0:
            raise ValueError(f"a speed is greater than zero, not {speed}")
        self._speed = speed
        self._start: tuple[int, float] | None = None

    def wait_s(self, t_us: int, now_s: float) -> float:
        """Return the time until the event at `t_us` is due, s, at least 0."""
        if self._start is None:
            self._start = (t_us, now_s)
        first_us, started_s = self._start
        due_s = started_s + (t_us - first_us) * 1e-6 / self._speed
        return max(0.0, due_s - now_s)


def by_events(chunks: Iterable[Events], count: int) -> Iterator[Events]:
    """Cut a stream of chunks anew, into frames of `count` events each."""
    held: list[Events] = []
    size = 0
    for chunk in chunks:
        start = 0
        while size + len(chunk) - start >= count:
            stop = start + count - size
            yield _joined([*held, chunk[start:stop]])
            held, size, start = [], 0, stop
        if start < len(chunk):
            held.append(chunk[start:])
            size += len(chunk) - start
    if held:
        yield _joined(held)


def by_time(chunks: Iterable[Events], frame_us: int) -> Iterator[Events]:
    """Cut a stream of chunks anew, into frames of `frame_us` of sensor time.

    Borders lie at multiples of `frame_us` after the first event; a quiet
    stretch yields no empty frames.
    """
    held: list[Events] = []
    first_us = current = None
    for chunk in chunks:
        if len(chunk) == 0:
            continue
        if first_us is None:
            first_us = int(chunk["t"][0])
        numbers = (chunk["t"] - first_us) // frame_us
        borders = np.flatnonzero(np.diff(numbers)) + 1
        for piece in np.split(chunk, borders):
            number = (int(piece["t"][0]) - first_us) // frame_us
            if held and number != current:
                yield _joined(held)
                held = []
            current = number
            held.append(piece)
    if held:
        yield _joined(held)


def _joined(pieces: list[Events]) -> Events:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def limited(frames: Iterable[Events], most: int) -> Iterator[Events]:
    """Cut frames that hold more than `most` events."""
    for frame in frames:
        for start in range(0, len(frame), most):
            yield frame[start : start + most]


Frame = TypeVar("Frame", Events, RawFrame)


async def play(
    frames: Iterator[Frame], speed: float, clock: Clock = WALL_CLOCK
) -> AsyncIterator[Frame]:
    """Yield each frame once its last event has happened.

    Frames are read in a worker thread, so that decoding or simulating the
    next one never holds up the results of the last.
    """
    pacer = Pacer(speed)
    first = True
    while (frame := await asyncio.to_thread(next, frames, None)) is not None:
        t_us = (frame.events if isinstance(frame, RawFrame) else frame)["t"]
        if t_us.size and first:
            pacer.wait_s(int(t_us[0]), clock.now_s())
            first = False
        wait_s = pacer.wait_s(int(t_us[-1]), clock.now_s()) if t_us.size else 0.0
        if wait_s > 0:
            await clock.sleep(wait_s)
        yield frame


async def arriving(
    arrivals: Arrivals, batch: Batch, clock: Clock = WALL_CLOCK
) -> AsyncIterator[Events]:
    """Yield what arrives as frames: each when it is full, or has waited long enough.

    Raises what ended the source early, after the last frame.
    """
    held: list[Events] = []
    due_s = math.inf
    while True:
        wait_s = min(IDLE_S, max(0.0, due_s - clock.now_s()))
        taken = await asyncio.to_thread(arrivals.take, wait_s)
        if taken is None:
            break
        if taken and not held:
            due_s = clock.now_s() + batch.latency_s
        held += taken
        if sum(map(len, held)) >= batch.events or clock.now_s() >= due_s:
            for frame in by_events(held, batch.events):
                yield frame
            held, due_s = [], math.inf
    for frame in by_events(held, batch.events):
        yield frame
    arrivals.check()

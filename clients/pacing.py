"""Events cut into frames, and played at the pace of their timestamps."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from saccade.model.events.types import Events

AS_FAST_AS_POSSIBLE: Final = math.inf


class Clock(NamedTuple):
    """A source of time: the present moment, s, and a way to wait."""

    now_s: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


WALL_CLOCK: Final = Clock(time.monotonic, asyncio.sleep)


class Pacer:
    """The time until each event of a stream is due.

    Args:
        speed: How many sensor seconds pass in one second.
    """

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


async def play(
    frames: Iterator[Events], speed: float, clock: Clock = WALL_CLOCK
) -> AsyncIterator[Events]:
    """Yield each frame once its last event has happened.

    Frames are read in a worker thread, so that decoding or simulating the
    next one never holds up the results of the last.
    """
    pacer = Pacer(speed)
    first = True
    while (frame := await asyncio.to_thread(next, frames, None)) is not None:
        if first:
            pacer.wait_s(int(frame["t"][0]), clock.now_s())
            first = False
        wait_s = pacer.wait_s(int(frame["t"][-1]), clock.now_s())
        if wait_s > 0:
            await clock.sleep(wait_s)
        yield frame

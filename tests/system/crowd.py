"""Other people's cameras, on the air while a test streams its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from saccade.clients import http
from saccade.clients.connection import connect
from saccade.clients.pacing import by_events, play
from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.camera import simulate
from saccade.model.events.simulator.scenes import MOTIONS
from saccade.model.events.types import Events
from tests.system.offline import TOLERANCE, deviation

SENSOR = Sensor(34, 34)
FRAMES = (3, 7, 10, 20)


class Neighbour:
    """Plays a recording at its own speed, again and again, each time in a new session.

    Args:
        url: The server.
        events: The recording.
        expected: The scores that each session must end with.
        frame: Events in a frame.
    """

    def __init__(
        self, url: str, events: Events, expected: list[float], frame: int
    ) -> None:
        self._sent = asyncio.Event()
        self._leaving = False
        self._playing = asyncio.create_task(self._play(url, events, expected, frame))

    async def sends(self) -> None:
        """Wait until it has sent another frame; raise what went wrong if it cannot."""
        self._sent.clear()
        sending = asyncio.create_task(self._sent.wait())
        either = {sending, self._playing}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        sending.cancel()
        if self._playing.done():
            await self._playing

    async def leave(self) -> None:
        """Play what is on to its end; raise what went wrong."""
        self._leaving = True
        await self._playing

    def stop(self) -> None:
        self._playing.cancel()

    async def _play(
        self, url: str, events: Events, expected: list[float], frame: int
    ) -> None:
        while not self._leaving:
            async with connect(url, model="nmnist") as stream:
                async for part in play(by_events([events], frame), 1.0):
                    await stream.send(part)
                    self._sent.set()
                closed = await stream.close()
            assert deviation(closed.logits, expected) <= TOLERANCE


@asynccontextmanager
async def crowd(url: str) -> AsyncIterator[None]:
    """Have four neighbours stream all the while, each to the right scores."""
    recordings = [
        simulate(motion, seed=2, duration_us=150_000, sensor=SENSOR)
        for motion in MOTIONS[: len(FRAMES)]
    ]
    answers = http.classify(url, "nmnist", recordings, sensor=SENSOR)
    neighbours = [
        Neighbour(url, events, answer.logits or [], frame)
        for events, answer, frame in zip(recordings, answers, FRAMES, strict=True)
    ]
    try:
        await asyncio.gather(*(neighbour.sends() for neighbour in neighbours))
        yield
        await asyncio.gather(*(neighbour.sends() for neighbour in neighbours))
        await asyncio.gather(*(neighbour.leave() for neighbour in neighbours))
    finally:
        for neighbour in neighbours:
            neighbour.stop()

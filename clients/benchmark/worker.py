"""A process that runs some of a load's sessions.

    python -m saccade.clients.benchmark.worker

It reads commands from its standard input and writes an answer to each, one JSON value a
line: `open`, `run`, `close`. `crew` starts it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any, Final

from saccade.clients.benchmark.frames import Frames, first_events, random_events
from saccade.clients.benchmark.measured import added
from saccade.clients.benchmark.session import Load, LoadSession, Plan
from saccade.clients.errors import ClientError, StreamError
from saccade.clients.sources import SIMULATED, open_source
from saccade.model.events.errors import EventsError
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

OPENING_AT_ONCE: Final = 16
DISTINCT_EVENTS: Final = 1 << 16
"""Events of the frames that are sent in turn; a frame of more is the only one."""
SENSOR_RATE: Final = 100_000.0
"""Events per second of sensor time in a load without a rate."""
RANDOM: Final = "random"
"""A source of events at random pixels of the model's sensor."""


def events_of(source: str, sensor: Sensor, count: int) -> Events:
    """Return the first events of a source; its times are not used.

    Args:
        source: `random`, a simulated camera such as `sim:motions`, or a recording.
        sensor: The sensor of random events, and of a recording that does not say.
        count: How many are wanted; a recording may have fewer.
    """
    if source == RANDOM:
        return random_events(sensor, count)
    given = None if source.startswith(SIMULATED) else sensor
    return first_events(open_source(source, given).chunks, count)


def frames_of(load: Load, source: str, sensor: Sensor) -> Frames:
    """Return the frames that a load sends."""
    count = max(DISTINCT_EVENTS // load.frame_events, 1) * load.frame_events
    events = events_of(source, sensor, count)
    return Frames(events, load.frame_events, load.rate or SENSOR_RATE)


class Worker:
    """The sessions of this process."""

    def __init__(self) -> None:
        self._sessions: list[LoadSession] = []

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what a command says."""
        match command.pop("do"):
            case "open":
                return await self._open(**command)
            case "run":
                return await self._run(Plan(**command["plan"]))
            case _:
                return await self._close(**command)

    async def _open(
        self, url: str, load: dict[str, Any], source: str, places: list[int], of: int
    ) -> dict[str, Any]:
        """Open the sessions of these places among all of the load's."""
        sent = Load(**load)
        sensor = Sensor.from_list(command_sensor(sent))
        frames = frames_of(sent, source, sensor)
        turns = asyncio.Semaphore(OPENING_AT_ONCE)

        async def connect(place: int) -> LoadSession:
            async with turns:
                return await LoadSession.connect(url, sent, frames, place, of)

        opening = [asyncio.create_task(connect(place)) for place in places]
        try:
            self._sessions = await asyncio.gather(*opening)
        except BaseException:
            for task in opening:
                task.cancel()
            for done in await asyncio.gather(*opening, return_exceptions=True):
                if isinstance(done, LoadSession):
                    done.abort()
            raise
        return {"opened": self._sessions[0].opened}

    async def _run(self, plan: Plan) -> dict[str, Any]:
        gc.collect()
        gc.disable()  # a pause here would count as the server's
        began_s = time.process_time()
        try:
            parts = await asyncio.gather(*(one.run(plan) for one in self._sessions))
        finally:
            gc.enable()
        total = added(parts)
        total.cpu_s = time.process_time() - began_s
        return {"measured": total.to_json()}

    async def _close(self, timeout_s: float) -> dict[str, Any]:
        sessions, self._sessions = self._sessions, []
        closed = await asyncio.gather(*(one.close(timeout_s) for one in sessions))
        answers = [one for one in closed if one is not None]
        names = ("events", "pending", "dropped")
        total = {name: sum(one.get(name) or 0 for one in answers) for name in names}
        total["sent"] = sum(one.sent_events for one in sessions)
        total["unanswered"] = len(closed) - len(answers)
        total["wrong"] = sum(
            one.sent_events != sum(answer.get(name) or 0 for name in names)
            for one, answer in zip(sessions, closed, strict=True)
            if answer is not None
        )
        return {"closed": total}


def command_sensor(load: Load) -> list[int]:
    """Return the sensor of the events that a load sends."""
    sensor = load.opening.get("sensor")
    assert sensor is not None, "a crew names the sensor"
    return [*sensor]


def failure(error: Exception) -> dict[str, Any]:
    """Return an error as JSON values."""
    if isinstance(error, StreamError):
        names = ("code", "message", "fatal", "field", "value")
        return {"refused": {name: getattr(error, name) for name in names}}
    return {"failed": str(error) or type(error).__name__}


async def serve() -> None:
    """Answer commands until the input ends."""
    worker = Worker()
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            answer = await worker.answer(json.loads(line))
        except (ClientError, EventsError, ValueError, OSError) as error:
            answer = failure(error)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve())

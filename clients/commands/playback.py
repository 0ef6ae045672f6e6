"""Playing a source into a stream while a view shows what comes back."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from saccade.clients.connection import Stream, connect
from saccade.clients.display.plain import View
from saccade.clients.display.statistics import Summary, Tally
from saccade.clients.errors import StreamError
from saccade.clients.pacing import play
from saccade.clients.session import Bounds
from saccade.clients.sources import Source
from saccade.clients.transport import Choices
from saccade.model.events.types import Events

DRAW_EVERY_S: Final = 0.08
RESULTS_KEPT: Final = 1 << 16
"""A burst of results after a burst of events is no sign of a slow consumer."""
LIVE_EVENTS_UNDER_WAY: Final = 1 << 16
"""A server that falls behind slows the play down; what shows is still recent."""


@dataclass(frozen=True)
class Playback:
    """One source on its way to one server.

    Attributes:
        url: Where the server is.
        model: The model to ask.
        source: What plays.
        frames: The source's events, as they are to be sent.
        speed: How many sensor seconds pass in one second.
    """

    url: str
    model: str
    source: Source
    frames: Iterator[Events]
    speed: float


async def run(
    playback: Playback, view: View, choices: Choices, tell: Callable[[str], None]
) -> Summary:
    """Play a source to its end, or until the user interrupts; sum up either way.

    Args:
        playback: What plays, and where.
        view: What shows it.
        choices: How to open the session.
        tell: Takes a line about the session that the user should know of.

    Raises:
        ClientError: The server could not be reached, or failed.
        EventsError: The source could not be read on.
    """
    live = math.isfinite(playback.speed)
    bounds = Bounds(RESULTS_KEPT, LIVE_EVENTS_UNDER_WAY if live else None)
    async with connect(
        playback.url, model=playback.model, bounds=bounds, **choices
    ) as stream:
        source = playback.source
        _tell_fit(stream, source, choices, tell)
        began_s = time.monotonic()
        tally = Tally(source.name, stream.opened, stream.traffic, source.truth, began_s)
        with view:
            finished = await _perform(playback, stream, tally, view)
        closed = stream.closed
        assert closed is not None
        return tally.summary(closed, time.monotonic(), interrupted=not finished)


def _tell_fit(
    stream: Stream, source: Source, choices: Choices, tell: Callable[[str], None]
) -> None:
    target = stream.opened.sensor
    if (source.sensor.width, source.sensor.height) != (target.width, target.height):
        fit = {"scale": "scaled", "crop": "cropped"}.get(choices.get("fit", ""), "sent")
        tell(
            f"the events of a {source.sensor} sensor are {fit} to the model's {target}"
        )


async def _perform(
    playback: Playback, stream: Stream, tally: Tally, view: View
) -> bool:
    """Play, and return whether it came to its end."""
    hearing = asyncio.create_task(_hear(stream, tally, view))
    drawing = asyncio.create_task(_draw(tally, view))
    feeding = asyncio.create_task(_feed(playback, stream))
    try:
        finished = await _until_either_ends(feeding, hearing)
        await _close(stream)
        await hearing
        return finished
    finally:
        for task in (hearing, drawing, feeding):
            task.cancel()
        await asyncio.gather(hearing, drawing, feeding, return_exceptions=True)


async def _until_either_ends(
    feeding: asyncio.Task[None], hearing: asyncio.Task[None]
) -> bool:
    """Wait for the source's end, the stream's end or the user's interrupt."""
    try:
        await asyncio.wait({feeding, hearing}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        # The first interrupt ends the play, not the program: the scores so
        # far are still to be shown.
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    feeding.cancel()
    try:
        await feeding
    except asyncio.CancelledError:
        return False
    return True


async def _feed(playback: Playback, stream: Stream) -> None:
    async for frame in play(playback.frames, playback.speed):
        await _send(stream, frame)


async def _send(stream: Stream, frame: Events) -> None:
    """Send a frame; an earlier refusal, which `traffic` counts, does not stop it."""
    while True:
        try:
            return await stream.send(frame)
        except StreamError as error:
            if error.fatal:
                raise


async def _close(stream: Stream) -> None:
    try:
        await stream.close()
    except StreamError as error:
        if error.fatal:
            raise


async def _hear(stream: Stream, tally: Tally, view: View) -> None:
    async for result in stream:
        tally.heard(result)
        view.heard(result)


async def _draw(tally: Tally, view: View) -> None:
    while True:
        view.show(tally.snapshot(time.monotonic()))
        await asyncio.sleep(DRAW_EVERY_S)

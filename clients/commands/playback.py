"""A source streamed to a server while a view shows the scores that come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from saccade.clients.connection import Choices, Stream, connect
from saccade.clients.display.plain import View
from saccade.clients.display.statistics import Summary, Tally
from saccade.clients.errors import StreamError
from saccade.clients.pacing import RawFrame
from saccade.clients.reconnecting import Reconnecting, Waiting
from saccade.clients.session import Bounds
from saccade.clients.sources import Source
from saccade.model.events.types import Events

DRAW_EVERY_S: Final = 0.08
RESULTS_KEPT: Final = 1 << 16
"""Enough for the burst of results that follows a burst of events."""
LIVE_EVENTS_UNDER_WAY: Final = 1 << 16
"""Few, so that a server that falls behind slows the source, and scores stay recent."""


@dataclass(frozen=True)
class Playback:
    """A source to stream to a model, as frames that come when they are due.

    Where it `keeps_pace` few events are under way, so that scores stay recent.
    """

    url: str
    model: str
    source: Source
    frames: AsyncIterator[Events | RawFrame]
    keeps_pace: bool = True


async def run(
    playback: Playback,
    view: View,
    choices: Choices,
    notify: Callable[[str], None],
) -> Summary:
    """Stream a source to its end, or until the user interrupts; sum up either way.

    `notify` receives a line for the user where the sensor is not the model's, and at
    the first wait for a busy or lost server.
    """
    under_way = LIVE_EVENTS_UNDER_WAY if playback.keeps_pace else None
    async with connect(
        playback.url,
        model=playback.model,
        bounds=Bounds(RESULTS_KEPT, under_way),
        reconnecting=_reconnecting(notify),
        **choices,
    ) as stream:
        source = playback.source
        _notify_of_fit(stream, source, choices, notify)
        began_s = time.monotonic()
        tally = Tally(source.name, stream.opened, stream.stats, source.truth, began_s)
        with view:
            finished = await _perform(playback, stream, tally, view)
        closed = stream.closed
        assert closed is not None
        return tally.summary(closed, time.monotonic(), interrupted=not finished)


def _reconnecting(notify: Callable[[str], None]) -> Reconnecting:
    """Return the default way to reconnect, with one line to the user for each loss."""

    def on_wait(waiting: Waiting) -> None:
        if waiting.attempt == 1:
            limit = f"trying again for up to {Reconnecting.give_up_s:g} s"
            notify(f"{waiting.cause}; {limit}")

    return Reconnecting(on_wait=on_wait)


def _notify_of_fit(
    stream: Stream, source: Source, choices: Choices, notify: Callable[[str], None]
) -> None:
    target, own = stream.opened.sensor, source.sensor
    if own is not None and (own.width, own.height) != (target.width, target.height):
        fit = {"scale": "scaled", "crop": "cropped"}.get(choices.get("fit", ""), "sent")
        notify(f"the events of a {own} sensor are {fit} to the model's {target}")


async def _perform(
    playback: Playback, stream: Stream, tally: Tally, view: View
) -> bool:
    """Stream and show; return whether the source came to its end."""
    receiving = asyncio.create_task(_receive(stream, tally, view))
    drawing = asyncio.create_task(_draw(tally, view))
    sending = asyncio.create_task(_send(playback, stream))
    try:
        finished = await _until_either_ends(sending, receiving)
        await _close(stream)
        await receiving
        return finished
    finally:
        for task in (receiving, drawing, sending):
            task.cancel()
        await asyncio.gather(receiving, drawing, sending, return_exceptions=True)


async def _until_either_ends(
    sending: asyncio.Task[None], receiving: asyncio.Task[None]
) -> bool:
    """Wait for the source's end, the stream's end or the user's interrupt."""
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        # The first interrupt ends the play, not the program: the scores so
        # far are still to be shown.
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    sending.cancel()
    try:
        await sending
    except asyncio.CancelledError:
        return False
    return True


async def _send(playback: Playback, stream: Stream) -> None:
    async for frame in playback.frames:
        await _send_frame(stream, frame)


async def _send_frame(stream: Stream, frame: Events | RawFrame) -> None:
    """Send a frame; an earlier refusal, which `stats` counts, does not stop it."""
    while True:
        try:
            if isinstance(frame, RawFrame):
                return await stream.send_raw(frame.data)
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


async def _receive(stream: Stream, tally: Tally, view: View) -> None:
    """Show each result; refusals, which `stats` counts, do not stop it."""
    while not await _show_until_refused(stream, tally, view):
        pass


async def _show_until_refused(stream: Stream, tally: Tally, view: View) -> bool:
    """Return whether the stream has ended, rather than a frame been refused."""
    try:
        async for result in stream:
            tally.add(result)
            view.add(result)
    except StreamError as error:
        if error.fatal:
            raise
        return False
    return True


async def _draw(tally: Tally, view: View) -> None:
    while True:
        view.show(tally.snapshot(time.monotonic()))
        await asyncio.sleep(DRAW_EVERY_S)

"""The streams of one `saccade stream`: a source, or each camera of a recording."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from saccade.clients.commands.arguments import read_options
from saccade.clients.commands.opening import (
    Models,
    cameras_of,
    guessed,
    open_files,
)
from saccade.clients.errors import UnplayableSource
from saccade.clients.sources import (
    SIMULATED,
    Source,
    is_live,
    open_live,
    open_raw_words,
    open_source,
)
from saccade.model.events.recordings import Recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

if TYPE_CHECKING:  # httpx is no part of the base install
    from saccade.clients.http import ModelCard

T = TypeVar("T")


class Streamed(NamedTuple):
    """A source to stream, and the model to ask.

    `guess` is the geometry, where that is a guess; `camera` is the recording's camera,
    where there are streams of several.
    """

    source: Source
    model: str
    guess: Sensor | None = None
    camera: str | None = None


def open_streams(
    options: argparse.Namespace, notify: Callable[[str], None]
) -> list[Streamed]:
    """Open what the command line names: files are one recording, continued.

    Raises:
        UnplayableSource: A simulated camera stands beside another source.
        RecordingError: A file cannot be read.
    """

    def list_models() -> list[ModelCard]:
        try:
            from saccade.clients import http
        except ModuleNotFoundError:
            if options.model is not None:
                return []  # a sensor host has the base install
            raise
        return http.models(options.url)

    models = Models(list_models, options.model, notify)
    played = [t for t in options.source if not (is_live(t) or t.startswith(SIMULATED))]
    if len(played) < len(options.source):
        return [_alone(options.source, options.sensor, models)]
    paths, bits = [Path(text) for text in options.source], options.clock_bits
    chosen, streams = read_options(options), []
    for each in cameras_of(paths, chosen, bits):
        recording, model = open_files(paths, each, bits, models)
        camera = each.camera if each.camera != chosen.camera else None
        name = paths[0].name if camera is None else f"{paths[0].name} [{camera}]"
        source = Source(
            name,
            recording.sensor,
            as_the_file_counts(recording),
            findings=recording.findings,
            raw=open_raw_words(paths) if options.raw else None,
        )
        streams.append(Streamed(source, model, guessed(recording), camera))
    return streams


def as_the_file_counts(recording: Recording) -> Iterator[Events]:
    """Yield a recording's events with the timestamps of its file's clock."""
    for chunk in recording.events:
        counted = chunk.copy()
        counted["t"] += recording.findings.start_us or 0
        yield counted


def _alone(texts: Sequence[str], sensor: Sensor | None, models: Models) -> Streamed:
    """Open a simulated camera, or what arrives live."""
    if len(texts) > 1:
        raise UnplayableSource(texts[0], "only files continue one stream")
    opened = open_live if is_live(texts[0]) else open_source
    source = opened(texts[0], sensor)
    if models.named is None and source.model is not None:
        return Streamed(source, source.model)
    card = models.choose(source.sensor, "header" if source.sensor else "guess")
    if isinstance(card, str):
        return Streamed(source, card)
    if source.sensor is None:
        source.findings.warn(f"it says no sensor; {card.name}'s {card.sensor} is taken")
        source = replace(source, sensor=card.sensor)
    return Streamed(source, card.name)


async def run_together(runs: Sequence[Awaitable[T]]) -> list[T | BaseException]:
    """Run streams at once, each to its own end; an interrupt reaches all of them.

    Returns:
        What each returned, or the exception that ended it.
    """
    tasks = [asyncio.ensure_future(run) for run in runs]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        # The first interrupt ends the streams, whose scores are still to be shown.
        current = asyncio.current_task()
        assert current is not None
        current.uncancel()
        for task in tasks:
            task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)

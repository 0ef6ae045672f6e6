"""The frames of a source for `saccade stream`: filtered, recorded, sent when due.

What is played (a recording, a simulated camera) is cut by its timestamps and sent when
they pass. What arrives live is sent when it has waited, or when there is enough of it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from saccade.clients.arrivals import Arrivals
from saccade.clients.commands import arguments
from saccade.clients.errors import UnplayableSource
from saccade.clients.filters import FILTERS, filtered
from saccade.clients.pacing import (
    Batch,
    RawFrame,
    arriving,
    by_events,
    by_time,
    limited,
    play,
)
from saccade.clients.recording import Recorder
from saccade.clients.sources import Source
from saccade.model.events.types import Events

LATENCY_MS: Final = 10.0
FRAME_EVENTS: Final = 16_384


def add_framing_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for when events are sent, which, and where they are kept."""
    parser.add_argument(
        "--speed",
        type=arguments.speed,
        default=1.0,
        metavar="N|max",
        help="sensor seconds per second of what is played (default: 1, as recorded)",
    )
    parser.add_argument(
        "--max-latency-ms",
        "--frame-ms",
        type=arguments.milliseconds,
        metavar="MS",
        help="send a frame after so long (the sensor's time, if it is played; default: "
        f"{LATENCY_MS:g}, none at --speed max)",
    )
    parser.add_argument(
        "--max-events",
        "--frame-events",
        type=arguments.count,
        metavar="N",
        help=f"send a frame with so many events (default: {FRAME_EVENTS} where events "
        "come live or at --speed max)",
    )
    parser.add_argument(
        "--filter",
        choices=list(FILTERS),
        action="append",
        default=[],
        help="drop noise before it is sent, counted: events without a neighbour's in "
        "the 10 ms before (noise), pixels that fire steadily (hotpixel); may be given "
        "twice",
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="keep what is streamed in an .aedat4 file",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="forward the bytes of a Prophesee RAW file as they are",
    )


@contextmanager
def framed(
    source: Source, options: argparse.Namespace
) -> Iterator[AsyncIterator[Events | RawFrame]]:
    """Provide the source's frames, for as long as the context is open.

    Raises:
        UnplayableSource: The options do not suit the source.
        Unrecordable: The file of `--record` cannot be made.
    """
    with ExitStack() as stack:
        if options.raw:
            yield play(_raw_frames(source, options), options.speed)
            return
        chunks = _prepared(source, options, stack)
        if not source.live:
            yield play(_cut(chunks, options), options.speed)
            return
        arrivals = Arrivals(chunks)
        stack.callback(arrivals.stop)
        latency_s = (options.max_latency_ms or LATENCY_MS) * 1e-3
        yield arriving(arrivals, Batch(latency_s, options.max_events or FRAME_EVENTS))


def keeps_pace(source: Source, options: argparse.Namespace) -> bool:
    """Return whether events come at a sensor's pace, instead of as fast as possible."""
    return source.live or math.isfinite(options.speed)


def _prepared(
    source: Source, options: argparse.Namespace, stack: ExitStack
) -> Iterator[Events]:
    """Return the source's chunks, filtered and recorded as the user chooses."""
    chunks, sensor = source.chunks, source.sensor
    if not (options.filter or options.record):
        return chunks
    if sensor is None:
        raise UnplayableSource(source.name, "say its sensor: --sensor WxH")
    for name in dict.fromkeys(options.filter):
        chunks = filtered(chunks, name, sensor, source.findings)
    if options.record:
        recorder = Recorder(options.record, sensor, source.findings)
        chunks = stack.enter_context(recorder).passed(chunks)
    return chunks


def _cut(chunks: Iterator[Events], options: argparse.Namespace) -> Iterator[Events]:
    latency_ms, most = options.max_latency_ms, options.max_events
    if latency_ms is None and most is None:
        latency_ms = None if math.isinf(options.speed) else LATENCY_MS * options.speed
    if latency_ms is None:
        return by_events(chunks, most or FRAME_EVENTS)
    frames = by_time(chunks, max(1, round(latency_ms * 1e3)))
    return limited(frames, most) if most else frames


def _raw_frames(source: Source, options: argparse.Namespace) -> Iterator[RawFrame]:
    if options.filter or options.record:
        reason = "--raw forwards all bytes as they are: no --filter and no --record"
        raise UnplayableSource(source.name, reason)
    if source.raw is None:
        reason = "--raw forwards the words of Prophesee's RAW files alone"
        raise UnplayableSource(source.name, reason)
    return source.raw.frames

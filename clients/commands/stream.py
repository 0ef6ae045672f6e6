"""The command `saccade stream`: stream a source to a server, and show the scores."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final, get_args

from saccade.clients.commands import arguments
from saccade.clients.commands.arguments import base_parser, choose_model, print_message
from saccade.clients.commands.framing import add_framing_options, framed, keeps_pace
from saccade.clients.commands.playback import Playback, run
from saccade.clients.connection import LIVE_LAG_MS, Choices
from saccade.clients.display.plain import JsonView, PlainView, View
from saccade.clients.display.statistics import Summary
from saccade.clients.sources import (
    SIMULATED,
    Source,
    is_live,
    open_live,
    open_raw_words,
    open_source,
)
from saccade.model.events.recordings import OPENERS
from saccade.server.protocol.messages import ReadoutWindow, WhenFull

COMMAND: Final = "stream"
CHANGING_HALF_LIFE_MS: Final = 300.0

DESCRIPTION: Final = f"""\
Stream events to a Saccade server and watch the class scores move.

SOURCE is a recording ({", ".join(OPENERS)}),
a simulated camera, or what arrives live:

  sim:motions                     ten seconds of motions, one every two seconds
  sim:motions?seed=7&seconds=60   other scenes, for a minute; segment=1 changes faster
  sim:noise?rate=50000            nothing but noise, events/s of the whole sensor
  udp://0.0.0.0:3333?layout=spif  datagrams (t64_x16_y16_on8, t32_x16_y15_on1, spif)
  tcp://192.168.1.7:7777          a DV network stream (extra dv)
  stdin                           RAW or CSV; else ?format=evt3 (evt2, packed)
  camera                          a camera on USB (extra cameras); camera:metavision
  ros2:/event_camera/events       a topic, where rclpy is present
"""
EPILOG: Final = """\
examples:
  saccade stream sim:motions
  saccade stream digit.bin --model nmnist --speed 0.2
  saccade stream drive.raw --sensor 640x480 --speed max --json | tail -1
  saccade stream drive.raw --raw
  saccade stream camera --filter noise --filter hotpixel --record today.aedat4
  saccade stream udp://0.0.0.0:3333 --sensor 640x480
"""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = base_parser(COMMAND, DESCRIPTION, EPILOG)
    parser.add_argument("source", metavar="SOURCE", help="a recording, or one of above")
    add_framing_options(parser)
    _add_scoring(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="write each result and the summary as a line of JSON",
    )
    return parser


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide what is scored and when scores are reported."""
    parser.add_argument(
        "--report",
        type=arguments.report,
        default="tick",
        metavar="HOW",
        help=f"when to report: {arguments.REPORTS} (default: tick)",
    )
    parser.add_argument(
        "--half-life",
        type=arguments.readout,
        metavar="MS|off",
        help="how fast old events fade from the scores (default: off for a recording, "
        f"{CHANGING_HALF_LIFE_MS:g} for sim:motions)",
    )
    parser.add_argument(
        "--when-full",
        choices=get_args(WhenFull),
        help="what to do with events that come faster than they are scored: slow the "
        "source down, or drop the oldest, counted (default: drop-oldest for a socket, "
        "camera or topic, which cannot wait; otherwise block)",
    )
    parser.add_argument(
        "--max-lag-ms",
        type=arguments.lag_ms,
        metavar="MS|off",
        help="how old an event may be when it is scored (default: off for a recording, "
        f"{LIVE_LAG_MS} for sim:motions)",
    )


def execute(options: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    source = _open(options)
    model = (
        options.model
        or source.model
        or choose_model(options.url, source.sensor, _notify)
    )
    view = choose_view(as_json=options.json)
    view.finish(asyncio.run(_stream(source, model, view, options)))
    return 0


def _open(options: argparse.Namespace) -> Source:
    if is_live(options.source):
        return open_live(options.source, options.sensor)
    source = open_source(options.source, options.sensor, options.clock_bits)
    if options.raw and not options.source.startswith(SIMULATED):
        return replace(source, raw=open_raw_words(Path(options.source)))
    return source


async def _stream(
    source: Source, model: str, view: View, options: argparse.Namespace
) -> Summary:
    """Stream a source to its end; say what of it was left out."""
    with framed(source, options) as frames:
        pace = keeps_pace(source, options)
        playback = Playback(options.url, model, source, frames, keeps_pace=pace)
        return await run(playback, view, choose(source, options), _notify)


def choose(source: Source, options: argparse.Namespace) -> Choices:
    """Return the session's options: as the user chooses, or as suits the source."""
    choices = Choices(
        sensor=source.sensor,
        fit=options.fit,
        report=options.report,
        readout=options.half_life or default_readout(source),
        when_full=options.when_full or source.when_full,
        max_lag_ms=default_lag_ms(source, options.max_lag_ms),
    )
    if options.raw and source.raw is not None:
        choices["encoding"] = source.raw.encoding
    elif source.live and options.clock_bits:
        choices["clock_bits"] = options.clock_bits
    return choices


def default_readout(source: Source) -> ReadoutWindow:
    """Return the readout for a source: its whole, or the recent past if it changes."""
    if source.changes:
        return ReadoutWindow("half_life", CHANGING_HALF_LIFE_MS)
    return ReadoutWindow()


def default_lag_ms(source: Source, chosen: int | None) -> int | None:
    """Return the largest lag: as chosen (0 is none), or that of a live source."""
    if chosen is None:
        return LIVE_LAG_MS if source.changes else None
    return chosen or None


def choose_view(*, as_json: bool) -> View:
    """Return the view that suits standard output."""
    if as_json:
        return JsonView(sys.stdout)
    if not sys.stdout.isatty():
        return PlainView(sys.stdout)
    from rich.console import Console

    from saccade.clients.display.live import LiveView

    return LiveView(Console())


def _notify(text: str) -> None:
    print_message(COMMAND, text)

"""The command `saccade stream`: stream a source to a server, and show the scores."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable
from typing import Final, get_args

from saccade.clients.commands import arguments
from saccade.clients.commands.arguments import base_parser, print_message
from saccade.clients.commands.framing import add_framing_options, framed, keeps_pace
from saccade.clients.commands.opening import Remarks
from saccade.clients.commands.playback import Playback, run
from saccade.clients.commands.streams import Streamed, open_streams, run_together
from saccade.clients.commands.waiting import wait_until_ready
from saccade.clients.connection import LIVE_LAG_MS, Choices
from saccade.clients.display.plain import JsonView, PlainView, View
from saccade.clients.display.statistics import Summary
from saccade.clients.sources import Source
from saccade.model.events.reading import Findings
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
  saccade stream part1.raw part2.raw part3.raw
  saccade stream stereo.aedat4 --camera all
  saccade stream drive.raw --raw
  saccade stream camera --filter noise --filter hotpixel --record today.aedat4
  saccade stream udp://0.0.0.0:3333 --sensor 640x480
"""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = base_parser(COMMAND, DESCRIPTION, EPILOG)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="+",
        help="a recording, or one of the above; several files continue one stream",
    )
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
    wait_until_ready(options.url, options.wait_s)
    streams = open_streams(options, _notify)
    remarks = [Remarks(s.source.findings, s.guess) for s in streams]
    views = [
        choose_view(as_json=options.json, camera=s.camera, findings=s.source.findings)
        for s in streams
    ]
    for stream, remark in zip(streams, remarks, strict=True):
        _tell(stream, remark.at_first())
    plays = [_play(*each, options) for each in zip(streams, views, strict=True)]
    ends = asyncio.run(run_together(plays))
    for stream, view, end, remark in zip(streams, views, ends, remarks, strict=True):
        if not isinstance(end, BaseException):
            view.finish(end)
            _tell(stream, remark.at_last())
    refused = 0
    for end in ends:
        if isinstance(end, BaseException):
            raise end
        refused += end.frames_refused
    return 1 if refused else 0


async def _play(stream: Streamed, view: View, options: argparse.Namespace) -> Summary:
    source = stream.source
    with framed(source, options) as frames:
        pace = keeps_pace(source, options)
        playback = Playback(options.url, stream.model, source, frames, keeps_pace=pace)
        return await run(playback, view, choose(source, options), _notify)


def _tell(stream: Streamed, remarks: Iterable[str]) -> None:
    for remark in remarks:
        _notify(f"{stream.source.name}: {remark}")


def choose(source: Source, options: argparse.Namespace) -> Choices:
    """Return the session's options: as the user chooses, or as suits the source."""
    choices = Choices(
        sensor=source.sensor,
        fit=options.fit,
        report=options.report,
        readout=options.half_life or default_readout(source),
        when_full=options.when_full or source.when_full,
        max_lag_ms=default_lag_ms(source, options.max_lag_ms),
        invalid=options.invalid,
        sort_within_us=options.sort_within_us,
    )
    if source.raw is not None:
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


def choose_view(
    *,
    as_json: bool,
    camera: str | None = None,
    findings: Findings | None = None,
) -> View:
    """Return the view that suits standard output.

    Args:
        as_json: Whether it is read by a program.
        camera: The camera, where there are several.
        findings: The recording's, which grow as events are read.
    """
    if as_json:
        return JsonView(sys.stdout, camera, findings)
    if camera is not None or not sys.stdout.isatty():
        return PlainView(sys.stdout, camera)
    from rich.console import Console

    from saccade.clients.display.live import LiveView

    return LiveView(Console())


def _notify(text: str) -> None:
    print_message(COMMAND, text)

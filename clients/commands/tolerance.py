"""The commands' options about invalid events, and what they say of those left out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, get_args

from saccade.model.events.tolerance import Invalid

if TYPE_CHECKING:  # httpx is no part of the base install
    from saccade.clients.http import Answer


def add_tolerance_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about events outside the sensor or out of order."""
    parser.add_argument(
        "--invalid",
        choices=get_args(Invalid),
        default="reject",
        help="what an event outside the sensor or out of order costs: its frame or its "
        "recording, or itself alone, counted (default: %(default)s)",
    )
    parser.add_argument(
        "--sort-within-us",
        metavar="US",
        type=_microseconds,
        default=0,
        help="put events in order that are late by no more (default: %(default)s)",
    )


def left_out(answer: Answer) -> str | None:
    """Return in words what an answer leaves out; None where that is nothing."""
    if not answer.skipped:
        return None
    events = "event is" if answer.skipped == 1 else "events are"
    first = f"; the first: {answer.skipped_first}" if answer.skipped_first else ""
    return f"{answer.skipped:,} invalid {events} left out{first}"


def _microseconds(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of µs")
    return int(text)

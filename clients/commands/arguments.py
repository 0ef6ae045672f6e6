"""Command-line options of the client's commands, their values and their errors."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable
from typing import Final, get_args

from saccade.clients.commands.tolerance import add_tolerance_options
from saccade.clients.commands.waiting import add_waiting_option
from saccade.clients.endpoint import stream_url
from saccade.clients.errors import ClientError, RequestRefused, ServerUnreachable
from saccade.clients.pacing import AS_FAST_AS_POSSIBLE
from saccade.model.events.errors import EventsError
from saccade.model.events.fit import Fit
from saccade.model.events.reading import ReadOptions, WhenTruncated
from saccade.model.events.sensor import Sensor
from saccade.server.protocol.errors import InvalidField
from saccade.server.protocol.fields import Record
from saccade.server.protocol.messages import (
    CLOCK_BITS,
    LAGS_MS,
    Every,
    ReadoutWindow,
    Report,
)

DEFAULT_URL: Final = "ws://127.0.0.1:8000"
INTERRUPTED: Final = 130
_REPORT: Final = Record(Report)


def _report_forms() -> str:
    """Return the forms of a report policy; some take a number."""
    rule = _REPORT.columns["n"].rule
    counted = rule.values if rule else ()
    plain = [every for every in get_args(Every) if every not in counted]
    return ", ".join(plain + [f"{every}:N" for every in counted])


REPORTS: Final = _report_forms()


def base_parser(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return a parser with the options that `stream` and `classify` share."""
    parser = argparse.ArgumentParser(
        prog=f"saccade {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--url",
        type=url,
        default=DEFAULT_URL,
        help="the server's address (default: %(default)s)",
    )
    add_waiting_option(parser)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="which model to ask (default: the one for the source's sensor)",
    )
    add_reading_options(parser)
    parser.add_argument(
        "--fit",
        choices=get_args(Fit),
        default="scale",
        help="what to do if the sensor is not the model's (default: %(default)s)",
    )
    add_tolerance_options(parser)
    return parser


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for what any recording's file may lack."""
    parser.add_argument(
        "--sensor",
        metavar="WxH",
        type=sensor,
        help="geometry of a recording whose file does not hold it, as 640x480",
    )
    parser.add_argument(
        "--clock-bits",
        metavar="N",
        type=clock_bits,
        help="a recording's timestamps wrap after 2^N µs (not needed for RAW and DAT)",
    )


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add all options for reading recordings; `read_options` returns them."""
    add_recording_options(parser)
    parser.add_argument(
        "--chip",
        metavar="NAME",
        help="jAER's name of the camera's chip, for AEDAT 2 files that do not hold it",
    )
    parser.add_argument(
        "--camera",
        metavar="NAME",
        help="which camera of a file that holds several: its name, a part of it, its "
        "place from 1, or all (default: the first)",
    )
    parser.add_argument(
        "--columns",
        metavar="A,B,C,D",
        type=columns,
        help="a table's columns where it does not name them, as x,y,t,p",
    )
    parser.add_argument(
        "--truncated",
        choices=get_args(WhenTruncated),
        default=ReadOptions.truncated,
        help="what to do with a file that ends early: refuse it, or read what is there "
        "(default: %(default)s)",
    )


def read_options(options: argparse.Namespace) -> ReadOptions:
    """Return what the command line says of recordings."""
    return ReadOptions(
        sensor=options.sensor,
        chip=options.chip,
        camera=options.camera,
        columns=options.columns,
        truncated=options.truncated,
    )


def speed(text: str) -> float:
    """Read a speed: `1`, `2.5` or `max`."""
    if text == "max":
        return AS_FAST_AS_POSSIBLE
    return _above_zero(text, "a speed is a number above 0, or max")


def sensor(text: str) -> Sensor:
    """Read a sensor: `640x480`."""
    found = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no WIDTHxHEIGHT, as 640x480")
    try:
        return Sensor(int(found[1]), int(found[2]))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def columns(text: str) -> tuple[str, ...]:
    """Read the names of a table's columns: `x,y,t,p`."""
    return tuple(name.strip() for name in text.split(","))


def report(text: str) -> Report:
    """Read one of `REPORTS`, as `tick` or `events:1000`."""
    every, colon, n = text.partition(":")
    number = {"n": int(n) if n.isdecimal() else n} if colon else {}
    try:
        return _REPORT.read({"every": every, **number})
    except InvalidField:
        message = f"{text!r} is not one of {REPORTS}"
        raise argparse.ArgumentTypeError(message) from None


def readout(text: str) -> ReadoutWindow:
    """Read a readout window: `off`, or a half-life in ms."""
    if text == "off":
        return ReadoutWindow()
    half_life_ms = _above_zero(text, "a half-life is a number of ms above 0, or off")
    return ReadoutWindow("half_life", half_life_ms)


def milliseconds(text: str) -> float:
    """Read a time in ms."""
    return _above_zero(text, "a time is a number of ms above 0")


def count(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def clock_bits(text: str) -> int:
    """Read the width of a camera's clock, bits."""
    least, most = CLOCK_BITS
    if not text.isdecimal() or not least <= int(text) <= most:
        rule = f"is no number from {least} to {most}"
        raise argparse.ArgumentTypeError(f"{text!r} {rule}")
    return int(text)


def lag_ms(text: str) -> int:
    """Read the largest lag, ms; `off` is 0."""
    least, most = LAGS_MS
    if text != "off" and not (text.isdecimal() and least <= int(text) <= most):
        rule = f"is no number of ms from {least} to {most}, and not off"
        raise argparse.ArgumentTypeError(f"{text!r} {rule}")
    return 0 if text == "off" else int(text)


def url(text: str) -> str:
    """Read a server's address."""
    try:
        stream_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def run_command(command: str, action: Callable[[], int]) -> int:
    """Run a command and return its exit status; print an error as one line."""
    try:
        return action()
    except ServerUnreachable as error:
        print_message(command, f"{error}\nStart one with: saccade serve")
    except (ClientError, EventsError) as error:
        print_message(command, str(error))
    except ModuleNotFoundError as missing:
        print_message(
            command,
            f"this needs the package {missing.name!r}, which is not installed; "
            "pip install 'saccade[terminal]' brings it",
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    return 1


def print_message(command: str, text: str) -> None:
    """Write a message to standard error, apart from the command's output."""
    sys.stderr.write(f"saccade {command}: {text}\n")


def choose_model(url: str, sensor: Sensor | None, notify: Callable[[str], None]) -> str:
    """Return the server's model for a sensor, or else its first.

    `notify` receives a line about the choice where there are several models.
    """
    from saccade.clients import http

    models = http.models(url)
    if not models:
        raise RequestRefused(200, None, "the server serves no model")
    fitting = [model for model in models if model.sensor == sensor]
    chosen = (fitting or models)[0].name
    if len(models) > 1:
        names = ", ".join(model.name for model in models)
        notify(f"asking {chosen}; --model chooses of {names}")
    return chosen


def _above_zero(text: str, rule: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: {rule}")
    return value

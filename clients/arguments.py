"""What a user types on the command line, turned into values."""

from __future__ import annotations

import argparse
import math
import re

from saccade.clients.addresses import stream_url
from saccade.clients.pacing import AS_FAST_AS_POSSIBLE
from saccade.model.events.types import Sensor
from saccade.server.protocol.messages import ReadoutWindow, Report
from saccade.server.protocol.schema import CLOCK_BITS


def speed(text: str) -> float:
    """Read `1`, `2.5` or `max`."""
    if text == "max":
        return AS_FAST_AS_POSSIBLE
    return _above_zero(text, "a speed is a number above 0, or max")


def sensor(text: str) -> Sensor:
    """Read `640x480`."""
    found = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no WIDTHxHEIGHT, as 640x480")
    try:
        return Sensor(int(found[1]), int(found[2]))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def report(text: str) -> Report:
    """Read `tick`, `change`, `flush`, `events:1000` or `ms:20`."""
    every, _, count = text.partition(":")
    if every in {"events", "ms"} and count.isdecimal() and int(count):
        return Report("events" if every == "events" else "ms", int(count))
    match text:
        case "tick" | "change" | "flush":
            return Report(text)
    known = "tick, change, flush, events:N or ms:N"
    raise argparse.ArgumentTypeError(f"{text!r} is not one of {known}")


def readout(text: str) -> ReadoutWindow:
    """Read `off`, or a half-life in ms."""
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
    """Read the width of a camera's clock, from 16 to 48 bits."""
    least, most = CLOCK_BITS
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number from {least} to {most}"
        )
    return int(text)


def url(text: str) -> str:
    """Read a server's address."""
    try:
        stream_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _above_zero(text: str, rule: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: {rule}")
    return value

"""The option `--wait-s` of the commands: wait for a server that is about to serve."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Final

from saccade.clients.errors import ServerUnavailable, ServerUnreachable

POLL_S: Final = 0.5


def add_waiting_option(parser: argparse.ArgumentParser) -> None:
    """Add the option, whose value is `wait_s`."""
    parser.add_argument(
        "--wait-s",
        metavar="S",
        type=_seconds,
        help="wait for a server that does not answer yet, or loads its models, for so "
        "many seconds (default: do not wait)",
    )


def wait_until_ready(
    url: str,
    wait_s: float | None,
    now_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once the server at `url` is ready; at once where `wait_s` is None.

    Raises:
        ServerUnreachable: No server has answered at the end of the wait.
        ServerUnavailable: The server was not ready at the end of the wait.
    """
    if wait_s is None:
        return
    from saccade.clients import http

    end_s = now_s() + wait_s
    while True:
        try:
            ready, reason = http.readiness(url)
        except ServerUnreachable:
            if now_s() >= end_s:
                raise
        else:
            if ready:
                return
            if now_s() >= end_s:
                raise ServerUnavailable(url, reason)
        sleep(POLL_S)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value

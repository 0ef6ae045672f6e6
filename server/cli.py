"""`saccade serve` and `saccade key`: options, and the exit status."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from saccade.server.command_line import option_texts, settings_parser
from saccade.server.configuration import export
from saccade.server.launching import end_with_lost_device, serve_on
from saccade.server.listening import CannotListen, listen
from saccade.server.logs import JOURNAL, about, configure_logs, ignore_signals, tell
from saccade.server.serving import LOST_STATUS, CannotServe
from saccade.server.settings import Settings, resolve_settings
from saccade.server.transport.auth import OPERATOR, digest_of, new_key


def serve(argv: Sequence[str] | None = None) -> int:
    """Run the server until a stop signal; return the exit status."""
    parser = settings_parser("saccade serve", serve.__doc__ or "")
    texts = option_texts(parser.parse_args(argv))
    configure_logs()
    try:
        resolved = resolve_settings(os.environ, texts)
        settings = Settings(**resolved.values)
        configure_logs(settings.log_choices)
    except ValueError as error:
        tell("cannot_serve", str(error), logging.ERROR)
        return 2
    if resolved.file is not None:
        named = about("settings_file")
        JOURNAL.info("has settings from %s", resolved.file, extra=named)
    ignore_signals()  # until there is an event loop
    started_s = time.perf_counter()
    if settings.ray:
        export(resolved, texts, os.environ)
        return serve_by_ray(settings, started_s)
    try:
        with ExitStack() as stack:
            listening = listen(settings.host, settings.port)
            sockets = [stack.enter_context(each) for each in listening]
            status = serve_on(settings, sockets, started_s)
    except (CannotListen, CannotServe) as error:
        tell("cannot_serve", str(error), logging.ERROR)
        return error.status if isinstance(error, CannotServe) else 1
    if status == LOST_STATUS:
        end_with_lost_device()
    return status


def serve_by_ray(settings: Settings, started_s: float) -> int:
    """Run replicas until a stop signal; return the exit status.

    Args:
        settings: As they were read.
        started_s: When the start began, by `time.perf_counter`.
    """
    from saccade.server.ray_serve.errors import RayServeError
    from saccade.server.ray_serve.local import serve_with_ray

    try:
        return serve_with_ray(settings, started_s)
    except (CannotListen, RayServeError, ValueError) as error:
        tell("cannot_serve", str(error), logging.ERROR)
        return 2 if isinstance(error, ValueError) else 1


def key(argv: Sequence[str] | None = None) -> int:
    """Make an API key; print the line for the server's file, and the key itself."""
    options = argparse.ArgumentParser(prog="saccade key", description=key.__doc__)
    options.add_argument("name", help="name of the key's holder")
    options.add_argument(
        "--operator",
        action="store_true",
        help="the holder may see and watch the sessions of all keys",
    )
    parsed = options.parse_args(argv)
    name, role = parsed.name, f":{OPERATOR}" if parsed.operator else ""
    if ":" in name or "#" in name or "," in name:
        options.error("a name has no ':', ',' or '#'")
    secret = new_key()
    sys.stdout.write(f"{name}:{digest_of(secret)}{role}\n")
    sys.stderr.write(f"the key, shown only now (SACCADE_KEY): {secret}\n")
    return 0

"""`saccade serve` and `saccade key`: options, and the exit status."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from saccade import __version__
from saccade.server.engine.compiled_folder import usable_folder
from saccade.server.event_loop import run_loop
from saccade.server.listening import CannotListen, listen
from saccade.server.logs import JOURNAL, about, configure_logs, ignore_signals, tell
from saccade.server.serving import (
    LOST_STATUS,
    CannotServe,
    compile_beside,
    load_service,
    run,
    set_environment,
    use_devices,
)
from saccade.server.settings import Settings, advertised, help_text, option
from saccade.server.transport.auth import OPERATOR, digest_of, new_key


def serve(argv: Sequence[str] | None = None) -> int:
    """Run the server until a stop signal; return the exit status."""
    arguments = parser().parse_args(argv)
    configure_logs()
    try:
        settings = Settings.read(os.environ, option_texts(arguments))
        configure_logs(settings.log_choices)
    except ValueError as error:
        tell("cannot_serve", str(error), logging.ERROR)
        return 2
    ignore_signals()  # until there is an event loop
    started_s = time.perf_counter()
    try:
        with ExitStack() as stack:
            listening = listen(settings.host, settings.port)
            sockets = [stack.enter_context(each) for each in listening]
            settings = advertised(settings, sockets[0].getsockname()[1])
            log_start(settings)
            settings = use_devices(settings, os.environ)
            folder = stack.enter_context(usable_folder(settings.compiled))
            set_environment(folder)
            if settings.workers:
                from saccade.server.workers.supervisor import supervise

                return run_loop(supervise(settings, sockets, folder, started_s))
            compiler = compile_beside(settings, stack)
            load = partial(load_service, settings, folder, compiler)
            status = run_loop(run(settings, sockets, load, started_s))
    except (CannotListen, CannotServe) as error:
        tell("cannot_serve", str(error), logging.ERROR)
        return error.status if isinstance(error, CannotServe) else 1
    if status == LOST_STATUS:
        end_with_lost_device()
    return status


def log_start(settings: Settings) -> None:
    """Log that the server starts, under the names that it has from now on."""
    process = "supervisor" if settings.workers else ""
    configure_logs(settings.log_choices, process)
    facts = about("start", version=__version__, workers=settings.workers)
    JOURNAL.info("Saccade %s starts, as %s", __version__, settings.replica, extra=facts)


def end_with_lost_device() -> None:
    """End at once: JAX would wait for the device as it leaves."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(LOST_STATUS)


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


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with an option for each setting."""
    result = argparse.ArgumentParser(prog="saccade serve", description=serve.__doc__)
    types = get_type_hints(Settings)
    for item in fields(Settings):
        kind = types[item.name]
        options: dict[str, Any] = {}
        if kind is bool:
            options = {"action": "store_const", "const": "true"}
        elif kind == tuple[Path, ...]:
            options = {"action": "append"}
        if item.metadata["option"]:
            options |= {"dest": item.name, "help": help_text(item, kind)}
            result.add_argument(option(item), **options)
    return result


def option_texts(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Return each option's text as its environment variable would hold it."""
    return {
        name: ",".join(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
    }

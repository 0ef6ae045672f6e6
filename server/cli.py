"""`saccade serve` and `saccade key`: options, and the exit status."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from saccade.server.command_line import option_texts, settings_parser
from saccade.server.engine.compiled_folder import usable_folder
from saccade.server.event_loop import run_loop
from saccade.server.file_limits import files_of, raise_file_limit
from saccade.server.listening import CannotListen, listen
from saccade.server.logs import JOURNAL, configure_logs
from saccade.server.serving import (
    LOST_STATUS,
    CannotServe,
    compile_beside,
    load_service,
    run,
    set_environment,
    use_devices,
)
from saccade.server.settings import Settings, advertised, resolve_settings
from saccade.server.transport.auth import OPERATOR, digest_of, new_key


def serve(argv: Sequence[str] | None = None) -> int:
    """Run the server until a stop signal; return the exit status."""
    parser = settings_parser("saccade serve", serve.__doc__ or "")
    arguments = parser.parse_args(argv)
    configure_logs()
    try:
        resolved = resolve_settings(os.environ, option_texts(arguments))
        settings = Settings(**resolved.values)
    except ValueError as error:
        sys.stderr.write(f"saccade serve: {error}\n")
        return 2
    if resolved.file is not None:
        JOURNAL.info("has settings from %s", resolved.file)
    raise_file_limit(files_of(settings, settings.sessions))
    started_s = time.perf_counter()
    try:
        with ExitStack() as stack:
            listening = listen(settings.host, settings.port)
            sockets = [stack.enter_context(each) for each in listening]
            settings = use_devices(settings, os.environ)
            settings = advertised(settings, sockets[0].getsockname()[1])
            folder = stack.enter_context(usable_folder(settings.compiled))
            set_environment(folder)
            if settings.workers:
                from saccade.server.workers.supervisor import supervise

                return run_loop(supervise(settings, sockets, folder, started_s))
            compiler = compile_beside(settings, stack)
            load = partial(load_service, settings, folder, compiler)
            status = run_loop(run(settings, sockets, load, started_s))
    except (CannotListen, CannotServe) as error:
        sys.stderr.write(f"saccade serve: {error}\n")
        return error.status if isinstance(error, CannotServe) else 1
    if status == LOST_STATUS:
        end_with_lost_device()
    return status


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

"""A server on sockets that listen already: one process, or several workers."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from functools import partial

from saccade import __version__
from saccade.server.engine.compiled_folder import usable_folder
from saccade.server.event_loop import run_loop
from saccade.server.file_limits import files_of, raise_file_limit
from saccade.server.logs import JOURNAL, about, configure_logs
from saccade.server.serving import (
    LOST_STATUS,
    compile_beside,
    load_service,
    run,
    set_environment,
    use_cpu_time,
    use_devices,
)
from saccade.server.settings import Settings, advertised


def serve_on(settings: Settings, sockets: list[socket.socket], started_s: float) -> int:
    """Serve on sockets until a stop signal; return the exit status.

    Args:
        settings: The server's.
        sockets: Listen already; the first one's port is advertised.
        started_s: When the start began, by `time.perf_counter`.

    Raises:
        CannotServe: A checkpoint, a device, the store or the keys cannot be used.
    """
    raise_file_limit(files_of(settings, settings.sessions))
    with ExitStack() as stack:
        settings = advertised(settings, sockets[0].getsockname()[1])
        log_start(settings)
        use_cpu_time(os.environ)
        settings = use_devices(settings, os.environ)
        folder = stack.enter_context(usable_folder(settings.compiled))
        set_environment(folder)
        if settings.workers:
            from saccade.server.workers.supervisor import supervise

            return run_loop(supervise(settings, sockets, folder, started_s))
        compiler = compile_beside(settings, stack)
        load = partial(load_service, settings, folder, compiler)
        return run_loop(run(settings, sockets, load, started_s))


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

"""The process that compares the backends beside a server's first start.

It has the lowest priority, takes from a tenth to a third of what a case is given all
the same, and counts among the server's own processes, also by its memory.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Final

from benchmarks.processes import running_beside
from saccade.server.engine.measuring import measure_into

MEASURING: Final = measure_into.__module__
POLL_S: Final = 0.2


def await_comparison(pid: int) -> None:
    """Wait until a server's process that compares the backends has ended."""
    while running_beside(pid, MEASURING):
        time.sleep(POLL_S)


def end_comparison(pid: int) -> None:
    """End a server's process that compares the backends; its next start compares."""
    for child in running_beside(pid, MEASURING):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(child, signal.SIGTERM)
    await_comparison(pid)

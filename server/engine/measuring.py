"""Finds out which backend is faster beside a server that is up, for the next start.

XLA takes as long to compile a network as all else that a first start does. So native
code serves at once, and a process of the lowest priority compares the two meanwhile.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen
from typing import Final

from saccade.server.engine.model_registry import ServedModel
from saccade.server.engine.native_code import (
    compiled_mark,
    end_with_parent,
    start_python,
)
from saccade.server.logs import about

LOG: Final = logging.getLogger(__name__)
LOWEST_PRIORITY: Final = 19
POLL_S: Final = 0.5


def measure_beside(models: Sequence[ServedModel], kept: Path) -> None:
    """Start a process that measures what is not known; it ends with this one.

    Args:
        models: Those that are served.
        kept: The folder that keeps the answers.
    """
    unknown = [str(m.folder) for m in models if not m.measured and m.folder]
    if unknown and "NUMBA_CACHE_DIR" in os.environ:
        process = start_python(measure_into, str(kept), *unknown)
        threading.Thread(target=_wait, args=(process,), daemon=True).start()


def _wait(process: Popen[bytes]) -> None:
    with process:
        if process.wait():
            LOG.info(
                "which backend is faster could not be measured",
                extra=about("not_kept"),
            )


def measure_into(kept: str, *folders: str) -> None:
    """Measure checkpoints' networks; this process was started for it."""
    os.nice(LOWEST_PRIORITY)
    end_with_parent()
    mark = compiled_mark(Path(os.environ["NUMBA_CACHE_DIR"]))
    while not mark.exists():
        time.sleep(POLL_S)
    from saccade.model.checkpoint import load
    from saccade.model.classifier import fold
    from saccade.server.engine.backend_choice import measure

    for folder in folders:
        checkpoint = load(Path(folder))
        config = checkpoint.manifest.config
        measure(config, fold(config, checkpoint.variables), Path(kept))

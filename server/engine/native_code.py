"""The CPU kernels' machine code, compiled beside the process that loads JAX.

numba compiles in Python, which takes half a minute of one core on a slow machine. A
process of its own does so while this one loads JAX and the models, and leaves the code
where this one finds it. It ends with this one, however that ends.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Self

from saccade.model.cpu_kernels.version import sources_version

POLL_S: Final = 0.1
ACCELERATORS: Final = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0")
"""Where one of these is, JAX most likely runs the models on it, without the kernels."""


class NativeCompiler:
    """A process that compiles the kernels; ended when the context is left."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._percent = 0

    @classmethod
    def start(cls, folder: Path) -> Self:
        """Start a process that keeps the kernels' code in a folder."""
        # The process finds modules exactly where this one does.
        program = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as here; "
        program += f"here.compile_into({str(folder)!r})"
        command = [sys.executable, "-c", program]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # its end tells the process that this one has ended
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what fails there is tried again here
            env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return cls(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        with self._process:  # closes the pipes, and waits for the end
            pass

    def wait(self, progress: Callable[[str], None]) -> None:
        """Wait until the process has ended, whether it succeeded or not.

        Args:
            progress: Called with how far the process is; its exceptions end the wait.
        """
        while self._process.poll() is None:
            progress(f"native code, {self._read_percent()} %")
            time.sleep(POLL_S)

    def _read_percent(self) -> int:
        assert self._process.stdout is not None
        if written := self._process.stdout.read():
            self._percent = written[-1]
        return self._percent


def worth_compiling(folder: Path, execution: str) -> bool:
    """Return whether a second process would save time.

    Args:
        folder: Where the kernels' code is kept.
        execution: The backend that the server was asked for.
    """
    return (
        execution == "fastest"
        and not _mark(folder).exists()
        and not any(Path(device).exists() for device in ACCELERATORS)
        and (os.cpu_count() or 1) > 1
    )


def _mark(folder: Path) -> Path:
    """Return the file that says that a folder has the code of these kernels."""
    try:
        numba = version("numba")
    except PackageNotFoundError:
        numba = "none"
    python = platform.python_version()
    return folder / f"kernels-{sources_version():014x}-numba-{numba}-python-{python}"


def compile_into(folder: str) -> None:
    """Compile the kernels and keep their code; this process was started for it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from saccade.model.cpu_kernels.handler import STEPS, prepare

    steps = 0

    def progress() -> None:
        nonlocal steps
        steps += 1
        os.write(1, bytes([min(99, 100 * steps // STEPS)]))

    prepare(progress)
    _mark(Path(folder)).touch()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)

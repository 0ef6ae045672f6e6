"""The CPU kernels' machine code, compiled beside the process that loads JAX.

numba compiles in Python, which takes half a minute of one core on a slow machine. A
process of its own does so while this one loads JAX and the models, and leaves the code
where this one finds it. It ends with this one, however that ends.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Final, Self

from saccade.model.cpu_kernels.version import sources_version
from saccade.server.cpu_time import cpu_time

POLL_S: Final = 0.1


class NativeCompiler:
    """A process that compiles the kernels; ended when the context is left."""

    def __init__(self, process: Popen[bytes]) -> None:
        self._process = process
        self._percent = 0

    @classmethod
    def start(cls, folder: Path) -> Self:
        """Start a process that keeps the kernels' code in a folder."""
        # What fails there is tried again here.
        process = start_python(compile_into, str(folder))
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
    """Return whether a second process would save time, where a CPU runs the models.

    Args:
        folder: Where the kernels' code is kept.
        execution: The backend that the server was asked for.
    """
    return (
        execution == "fastest"
        and not compiled_mark(folder).exists()
        and cpu_time().threads > 1
    )


def mark_compiled() -> None:
    """Note that this process's folder of machine code has that of the kernels."""
    if folder := os.environ.get("NUMBA_CACHE_DIR"):
        mark = compiled_mark(Path(folder))
        if not mark.exists():
            with suppress(OSError):  # nothing can be kept there
                mark.touch()


def compiled_mark(folder: Path) -> Path:
    """Return the file that says that a folder has the code of these kernels."""
    try:
        numba = version("numba")
    except PackageNotFoundError:
        numba = "none"
    python = platform.python_version()
    return folder / f"kernels-{sources_version():014x}-numba-{numba}-python-{python}"


def compile_into(folder: str) -> None:
    """Compile the kernels and keep their code; this process was started for it."""
    os.environ["NUMBA_CACHE_DIR"] = folder  # numba has not been imported yet
    end_with_parent()
    from saccade.model.cpu_kernels.handler import STEPS, prepare

    steps = 0

    def progress() -> None:
        nonlocal steps
        steps += 1
        os.write(1, bytes([min(99, 100 * steps // STEPS)]))

    prepare(progress)
    mark_compiled()


def end_with_parent() -> None:
    """End this process once its standard input does, with the process that began it."""

    def wait() -> None:
        os.read(0, 1)  # no lock of Python's is held at the exit
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def start_python(function: Callable[..., None], *arguments: str) -> Popen[bytes]:
    """Start a Python process that finds modules exactly where this one does.

    Args:
        function: A function of a module, which the process calls; it calls
            `end_with_parent` first.
        arguments: The function's.
    """
    module = function.__module__
    program = f"import sys; sys.path[:] = {sys.path!r}; import {module} as here; "
    program += f"here.{function.__name__}(*{arguments!r})"
    return Popen(
        [sys.executable, "-c", program],
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
    )

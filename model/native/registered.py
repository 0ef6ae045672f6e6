"""The machine code as XLA knows it: compiled once, kept on disk, found by name."""

from __future__ import annotations

import ctypes
import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from threading import Lock
from typing import Any, Final

import jax
import numba
from numba import types
from numba.core import event

from saccade.model.native import handler

_COMPILING: Final = Lock()


def target() -> str:
    """Return the name by which XLA calls `handler.handle`, compiled if it is not yet.

    Programs that XLA keeps on disk hold the name, so it changes with the sources.
    """
    with _COMPILING:
        return _register()


class _Steps(event.Listener):  # type: ignore[misc]
    """Tells of each function that numba begins to compile."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self._progress = progress

    def on_start(self, event: Any) -> None:
        self._progress()

    def on_end(self, event: Any) -> None:
        pass


def prepare(progress: Callable[[], None]) -> None:
    """Compile what is not yet, or read what was kept.

    Args:
        progress: Is called some eighty times in 12 s; what it raises ends it.
    """
    with event.install_listener("numba:compile", _Steps(progress)):
        target()


@cache
def _register() -> str:
    version = _version()
    name = f"saccade_advance_{version:014x}"
    try:
        function = _c_function(version, keep=True)
    except (RuntimeError, OSError, EOFError, ValueError, UnpicklingError):
        # Nothing can be kept, or what was kept is damaged.
        _forget()
        function = _c_function(version, keep=False)
    pointer = ctypes.cast(function.address, ctypes.c_void_p)
    capsule = jax.ffi.pycapsule(pointer)  # type: ignore[no-untyped-call]
    jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    return name


def _c_function(version: int, *, keep: bool) -> Any:
    def respond(frame: int) -> int:
        # What is kept is found by the code and constants of this function alone, not
        # of those that it calls: hence a version that is never 0.
        return handler.handle(frame) if version else 0

    compile_to_c = numba.cfunc(types.int64(types.int64), cache=keep)
    return compile_to_c(inspect.unwrap(respond))


def _forget() -> None:
    """Remove what is kept, for the next process to keep it anew."""
    here = Path(__file__)
    folder = Path(numba.config.CACHE_DIR or here.parent / "__pycache__")
    for path in folder.rglob(f"{here.stem}.*.nb?"):
        path.unlink(missing_ok=True)


def _version() -> int:
    """Return a number that changes with what is compiled, constants included."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*here.parent.glob("*.py"), *here.glob("*.py")]):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "little") | 1

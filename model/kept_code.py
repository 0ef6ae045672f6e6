"""Machine code that numba compiles once, for this process and those that follow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy"}


def part(function: Function) -> Function:
    """Compile a function as a part of those that call it, in the same file.

    It is unwrapped before: tests wrap functions to check their annotations.
    """
    result: Function = numba.njit(inspect.unwrap(function), **_OPTIONS)
    return result


def compiled(
    functions: Sequence[Callable[..., Any]], use: Callable[..., None]
) -> list[Callable[..., Any]]:
    """Compile the functions of one file that Python calls, or read them from disk.

    Args:
        functions: They use nothing from other files than constants: the date of their
            own file says whether the code on disk is of this version.
        use: Calls each of the compiled functions once, and so has them compiled.
    """
    try:
        return _compile(functions, use, cache=True)
    except (RuntimeError, OSError, EOFError, ValueError, UnpicklingError):
        # The folder cannot be written, or a file in it is damaged.
        _remove_kept(Path(inspect.unwrap(functions[0]).__code__.co_filename))
        return _compile(functions, use, cache=False)


def _compile(
    functions: Sequence[Callable[..., Any]], use: Callable[..., None], *, cache: bool
) -> list[Callable[..., Any]]:
    options = {**_OPTIONS, "cache": cache}
    made = [numba.njit(inspect.unwrap(each), **options) for each in functions]
    use(*made)
    return made


def _remove_kept(source: Path) -> None:
    """Remove the machine code of a file, so that the next process writes it again."""
    folder = Path(numba.config.CACHE_DIR or source.parent / "__pycache__")
    for path in folder.rglob(f"{source.stem}.*.nb?"):
        path.unlink(missing_ok=True)

"""Machine code that numba compiles once, for this process and those that follow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final, TypeVar

import numba

from saccade.model.compiled_parts import PartCompiler

Function = TypeVar("Function", bound=Callable[..., Any])

# Only Python and compiled code call what is here: no wrapper for C is needed.
_OPTIONS: Final[dict[str, Any]] = {"error_model": "numpy", "no_cfunc_wrapper": True}

UNUSABLE: Final = (RuntimeError, OSError, EOFError, ValueError, UnpicklingError)
"""The folder of kept code cannot be written, or a file in it is damaged."""


def part(function: Function) -> Function:
    """Compile a function as a part of those that call it, in the same file.

    Python must not call it: there is no wrapper that would take the arguments.
    It is unwrapped before: tests wrap functions to check their annotations.
    """
    result: Function = numba.njit(
        inspect.unwrap(function),
        pipeline_class=PartCompiler,
        no_cpython_wrapper=True,
        **_OPTIONS,
    )
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
    except UNUSABLE:
        remove_kept(_source(functions[0]))
        return _compile(functions, use, cache=False)


def compiled_for(arguments: tuple[Any, ...], *, nogil: bool) -> Any:
    """Compile a function for numba's types of its arguments, or read it from disk.

    Args:
        arguments: Their types.
        nogil: Whether the function releases Python's lock.
    """
    options = {**_OPTIONS, "nogil": nogil}

    def compile_one(function: Function) -> Function:
        try:
            result: Function = numba.njit(arguments, cache=True, **options)(function)
        except UNUSABLE:
            remove_kept(_source(function))
            result = numba.njit(arguments, **options)(function)
        return result

    return compile_one


def _compile(
    functions: Sequence[Callable[..., Any]], use: Callable[..., None], *, cache: bool
) -> list[Callable[..., Any]]:
    options = {**_OPTIONS, "cache": cache}
    made = [numba.njit(inspect.unwrap(each), **options) for each in functions]
    use(*made)
    return made


def _source(function: Callable[..., Any]) -> Path:
    return Path(inspect.unwrap(function).__code__.co_filename)


def remove_kept(source: Path) -> None:
    """Remove the machine code of a file, so that the next process writes it again."""
    folder = Path(numba.config.CACHE_DIR or source.parent / "__pycache__")
    for path in folder.rglob(f"{source.stem}.*.nb?"):
        path.unlink(missing_ok=True)

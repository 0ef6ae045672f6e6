"""How the functions of this package become machine code.

Tests wrap what they check by its annotations; what is compiled is the function itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
from numba import extending

Function = TypeVar("Function", bound=Callable[..., Any])

# Nothing here may raise: a number divided by zero is what IEEE 754 says.
_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy"}


def compiled(function: Function) -> Function:
    """Compile a function when one that is compiled calls it."""
    result: Function = numba.njit(inspect.unwrap(function), **_OPTIONS)
    return result


def inlined(function: Function) -> Function:
    """Do so, and write it out wherever it is called."""
    result: Function = numba.njit(
        inspect.unwrap(function), forceinline=True, **_OPTIONS
    )
    return result


def merged(function: Function) -> Function:
    """Do so, as a part of what calls it: each level of calls costs a second."""
    result: Function = numba.njit(inspect.unwrap(function), inline="always", **_OPTIONS)
    return result


def instruction(function: Callable[..., Any]) -> Any:
    """Let compiled functions call what a function writes in LLVM's language.

    It gets numba's typing context and the arguments' types, and returns a signature
    and the function that writes.
    """
    return extending.intrinsic(inspect.unwrap(function))

"""The ways from a frame's events to tokens: in compiled code, or by NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TypeAlias

from saccade.model.ingest import Ingest, IngestConfig, NumpyIngest

NewIngest: TypeAlias = Callable[[IngestConfig], Ingest]
"""Returns what turns one session's frames into tokens."""


@cache
def fastest() -> NewIngest:
    """Return the compiled way, or NumPy's where numba cannot be loaded.

    Both give the same, by test. The first call compiles, which takes seconds, or reads
    what was compiled before.
    """
    if find_spec("numba") is None:
        return NumpyIngest
    try:
        from saccade.model.compiled_ingest import CompiledIngest, prepare
    except ImportError as error:  # numba does not know this Python, or this NumPy
        warnings.warn(f"no compiled ingest, NumPy does it: {error}", stacklevel=2)
        return NumpyIngest
    prepare()
    return CompiledIngest


def prepare_ingest() -> None:
    """Compile what reads frames, so that no session waits for it."""
    fastest()

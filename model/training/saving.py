"""What can go wrong while something is saved, told as one error with the path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saccade.model.training.errors import CannotSave


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn whatever Orbax and TensorStore raise for a disk's error into CannotSave."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise CannotSave(path, _first_line(error)) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]

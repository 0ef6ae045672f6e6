"""`saccade serve` whose device is lost, as CUDA says it, once a file is there.

    python tests/losing_server.py FILE [OPTIONS OF SACCADE SERVE]

The file is deleted as the error is raised, from within a compiled call.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from saccade.server.engine import loading
from saccade.server.engine.model_registry import ServedModel

TEXT = "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"
FILE = "LOSE_DEVICE_AT"


def lose_device_at(file: Path) -> None:
    """Have every model that is loaded from now on lose its device."""
    load = loading.load_model

    def load_losing(*arguments: Any, **options: Any) -> ServedModel:
        model = load(*arguments, **options)
        advance = model.servable.advance

        def fragile(logits: Any) -> Any:
            if file.exists():
                file.unlink()
                raise RuntimeError(TEXT)
            return np.asarray(logits)

        def losing(*parts: Any) -> Any:
            carry, logits = advance(*parts)
            shape = jax.ShapeDtypeStruct(logits.shape, logits.dtype)
            return carry, jax.pure_callback(fragile, shape, logits)

        servable = model.servable._replace(
            advance=losing, advance_rows=None, in_place=None
        )
        return replace(model, servable=servable)

    loading.load_model = load_losing


def begin(descriptor: int) -> int:
    """Play a part of a server of several processes; see `assignment.begin`."""
    from saccade.server.workers import assignment

    lose_device_at(Path(os.environ[FILE]))
    return assignment.begin(descriptor)


def main() -> int:
    from saccade.server.cli import serve
    from saccade.server.workers import assignment

    os.environ[FILE] = sys.argv[1]
    sys.path.insert(0, str(Path(__file__).parents[1]))
    assignment.__name__ = "tests.losing_server"  # what a child process begins with
    lose_device_at(Path(sys.argv[1]))
    return serve(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())

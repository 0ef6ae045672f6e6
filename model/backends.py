"""How `advance` is run: by a program of XLA's, or by machine code of our own.

Both compute the same (by test). Ours is for a CPU: it holds what it works on in the
cache, and does the work in blocks on as many threads as XLA has.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp

from saccade.model import streaming
from saccade.model.config import ModelConfig
from saccade.model.inference import Weights


class Execution(NamedTuple):
    """A network, ready to move sessions.

    Attributes:
        name: `xla` or `native`.
        weights: Laid out for it.
        advance: (config, weights, carry, tokens, dt_ms, ticks) -> carry, logits; see
            `streaming.advance`.
        advance_rows: (config, weights, pool, rows, tokens, dt_ms, ticks) -> pool,
            logits: the same for some rows of a pool of carries, where there is a
            quicker way than to read them, move them, and write them back.
        prepare: Compiles what all networks share, if there is such; calls its argument
            again and again, and ends with what that raises.
    """

    name: str
    weights: Any
    advance: Callable[..., tuple[Any, Any]]
    advance_rows: Callable[..., tuple[Any, Any]] | None = None
    prepare: Callable[[Callable[[], None]], None] | None = None


def by_xla(config: ModelConfig, weights: Weights) -> Execution:
    """Let XLA compile a program for each shape; runs anywhere."""
    return Execution("xla", weights, streaming.advance)


def by_native_code(config: ModelConfig, weights: Weights) -> Execution | None:
    """Run machine code that is made once for all shapes, or return None.

    It needs a CPU, the package numba and a network in float32.
    """
    single = weights.decoder.kernel.dtype == jnp.float32
    if not single or jax.default_backend() != "cpu" or find_spec("numba") is None:
        return None
    try:
        from saccade.model.cpu_kernels.advance import advance, advance_rows
        from saccade.model.cpu_kernels.handler import prepare
        from saccade.model.cpu_kernels.packing import pack
    except ImportError as error:  # numba does not know this Python, or this NumPy
        warnings.warn(f"no native code, XLA runs it: {error}", stacklevel=2)
        return None
    packed = pack(config, weights)
    return Execution("native", packed, advance, advance_rows, prepare)


def fastest(config: ModelConfig, weights: Weights) -> Execution:
    """Return the fastest execution that there is for a network here."""
    return by_native_code(config, weights) or by_xla(config, weights)


EXECUTIONS: Final[dict[str, Callable[[ModelConfig, Weights], Execution]]] = {
    "fastest": fastest,
    "xla": by_xla,
}
"""What an operator may choose."""

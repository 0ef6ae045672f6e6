"""Backends of `advance`: the program that XLA compiles, or native CPU kernels.

Both compute the same, by test. The native kernels are for a CPU: they keep a block of
ticks in a core's cache through all layers, and run blocks on all of XLA's threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp

from saccade.model import inference
from saccade.model.config import ModelConfig
from saccade.model.inference import Weights
from saccade.model.precision import FLOAT32, Precision
from saccade.model.state_rows import RowLayout, advance_rows


class InPlace(NamedTuple):
    """Calls of a network on the calling thread, on NumPy's arrays.

    Attributes:
        call: (rows, sessions, ticks, keeps_lock=…) -> a call of that shape: (weights,
            pool, rows, tokens, dt_ms, ticks) -> logits; see `in_place.RowsCall`.
        quick_ticks: So many ticks of one session are scored so soon that a thread with
            other work may do it itself; 0 where none are.
    """

    call: Callable[..., Callable[..., Any]]
    quick_ticks: int


class Backend(NamedTuple):
    """A network, ready to move sessions.

    Attributes:
        name: `xla` or `native`.
        weights: In the backend's layout.
        advance: (config, weights, carry, tokens, dt_ms, ticks) -> carry, logits; see
            `inference.advance`.
        advance_rows: (config, weights, pool, rows, tokens, dt_ms, ticks) -> pool,
            logits: `advance` of some rows of a pool, in place; see `state_rows`. None
            where gathering the rows, moving them and scattering them is as fast.
        prepare: Compiles what all networks share, if anything. Calls its argument
            repeatedly meanwhile, and stops with the exception that the call raises.
        padding_cost: What a tick that only fills a call's shape costs, in units of a
            real one: 0 where the backend skips it.
        in_place: Set where a call is worth no more threads than one, and is therefore
            over soonest on the thread that makes it.
    """

    name: str
    weights: Any
    advance: Callable[..., tuple[Any, Any]]
    advance_rows: Callable[..., tuple[Any, Any]] | None = None
    prepare: Callable[[Callable[[], None]], None] | None = None
    padding_cost: float = 1.0
    in_place: InPlace | None = None

    def in_rows(
        self, config: ModelConfig, layout: RowLayout
    ) -> Callable[..., tuple[Any, Any]]:
        """Return (weights, pool, rows, tokens, dt_ms, ticks) -> pool, logits."""
        if self.advance_rows is not None:
            return partial(self.advance_rows, config)
        return partial(advance_rows, partial(self.advance, config), layout)


def xla(
    config: ModelConfig, weights: Weights, precision: Precision = FLOAT32
) -> Backend:
    """Return the backend that XLA compiles, one program a shape; runs anywhere."""
    return Backend("xla", weights, partial(inference.advance_in, precision))


def native(config: ModelConfig, weights: Weights) -> Backend | None:
    """Return the native kernels, compiled once for all shapes, or None.

    They need a CPU, the package numba, a network in float32 and a configuration that
    the kernels implement. A warning gives the reason where numba cannot be loaded, or
    the configuration is not implemented.
    """
    single = weights.decoder.kernel.dtype == jnp.float32
    if not single or jax.default_backend() != "cpu" or find_spec("numba") is None:
        return None
    try:
        from saccade.model.cpu_kernels import advance, in_place
        from saccade.model.cpu_kernels.choices import unsupported
        from saccade.model.cpu_kernels.handler import prepare
        from saccade.model.cpu_kernels.packing import pack
    except ImportError as error:  # numba does not know this Python, or this NumPy
        warnings.warn(f"no native code, XLA runs it: {error}", stacklevel=2)
        return None
    if reason := unsupported(config):
        warnings.warn(f"no native code, XLA runs it: {reason}", stacklevel=2)
        return None
    moves = advance.advance, advance.advance_rows
    return Backend(
        "native",
        pack(config, weights),
        *moves,
        prepare,
        padding_cost=0.0,
        in_place=InPlace(
            partial(in_place.RowsCall, config), in_place.quick_ticks(config)
        )
        if in_place.suits(config)
        else None,
    )


def fastest(
    config: ModelConfig, weights: Weights, precision: Precision = FLOAT32
) -> Backend:
    """Return the native kernels where they run, else XLA's program.

    The native kernels multiply in float32 whatever less is allowed.
    """
    return native(config, weights) or xla(config, weights, precision)


BACKENDS: Final[dict[str, Callable[..., Backend]]] = {
    "fastest": fastest,
    "xla": xla,
}
"""The choices of `--execution`: (config, weights, precision) -> the backend."""

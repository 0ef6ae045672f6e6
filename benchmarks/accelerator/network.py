"""A network and streams of events that are equal to the last bit on every machine.

The weights have the shapes and sizes of dvs/small after initialization. Every number
comes from a counter through 64-bit integer arithmetic, so neither JAX's nor NumPy's
version, nor the processor, changes a bit.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from saccade.model.backends import Backend
from saccade.model.classifier import (
    Variables,
    expected_shapes,
    fold,
    init_carry,
)
from saccade.model.config import ModelConfig
from saccade.model.inference import Weights
from saccade.server.engine.model_registry import Canary, Servable

NAME: Final = "dvs/small"
CONFIG: Final = ModelConfig(
    num_embeddings=32768, num_classes=11, state_expansion_factor=2, dropout=0.25
)
LOG_TIMESCALES: Final = (-6.907755, -2.302585)
"""The ends of the learned timescales, log(1/1000) and log(1/10), by these digits."""
MOST_GAP_US: Final = 19
"""Gaps are evenly distributed from 0 to this: about 100 events a millisecond."""

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


class Stream(NamedTuple):
    """Events as a model takes them: tokens (l,) int32, and gaps (l,) float32, ms."""

    tokens: npt.NDArray[np.int32]
    dt_ms: npt.NDArray[np.float32]

    def part(self, begin: int, end: int) -> Stream:
        """Return the events from `begin` to before `end`."""
        return Stream(self.tokens[begin:end], self.dt_ms[begin:end])


def stream(number: int, events: int) -> Stream:
    """Return the beginning of one of the streams that the numbers name."""
    bits = _bits(f"stream {number}", events)
    tokens = (bits >> np.uint64(32)) % np.uint64(CONFIG.num_embeddings)
    gaps_us = (bits & np.uint64(0xFFFFFFFF)) % np.uint64(MOST_GAP_US + 1)
    dt_ms = gaps_us.astype(np.float64) / 1000.0
    return Stream(tokens.astype(np.int32), dt_ms.astype(np.float32))


def variables() -> Variables:
    """Return the network's parameters, float32 in NumPy's arrays."""
    found: Variables = {}
    for path, shape in expected_shapes(CONFIG).items():
        *parents, name = path.split("/")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = _leaf(path, name, shape).astype(np.float32)
    return found


def servable(
    backend: Backend, parameters: Variables, canary: Canary, version: str = ""
) -> Servable:
    """Return the network as the engine runs it, on one of the backends.

    Args:
        backend: From `weights` of these parameters.
        parameters: From `variables`.
        canary: What every bucket must reproduce.
        version: Tells several servables of one process apart.
    """
    return Servable(
        name=NAME.replace("/", "-"),
        tick_events=CONFIG.tick_events,
        classes=CONFIG.num_classes,
        weights=backend.weights,
        fresh=partial(init_carry, CONFIG, parameters),
        advance=partial(backend.advance, CONFIG),
        canary=canary,
        version=version,
        advance_rows=partial(backend.advance_rows, CONFIG)
        if backend.advance_rows
        else None,
        prepare=partial(_prepare, backend) if backend.prepare else None,
    )


def weights(parameters: Variables) -> Weights:
    """Return the folded weights, on the device."""
    return fold(CONFIG, jax.device_put(parameters))


def _prepare(backend: Backend, progress: Any) -> None:
    assert backend.prepare is not None
    backend.prepare(partial(progress, "native code"))


def _leaf(path: str, name: str, shape: tuple[int, ...]) -> Floats:
    """Return one parameter: uniform numbers of the variance of its initialization."""
    if name == "Lambda_re":
        return np.full(shape, -0.5)
    if name == "Lambda_im":
        places = np.arange(shape[0]) % CONFIG.ssm_block_size
        return 2.0 * places.astype(np.float64) - 15.0
    if name == "log_step":
        low, high = LOG_TIMESCALES
        return low + (high - low) * _uniform(path, shape)
    if name in ("bias", "scale"):
        return np.full(shape, float(name == "scale"))
    fan_in = 1
    if name in ("B", "C"):
        fan_in = 2 * shape[1]
    elif len(shape) == 2 and name != "embedding":
        fan_in = shape[0]
    largest = float(np.sqrt(3.0 / fan_in))
    return largest * (2.0 * _uniform(path, shape) - 1.0)


def _uniform(name: str, shape: tuple[int, ...]) -> Floats:
    """Return numbers of [0, 1), each a multiple of 2^-53."""
    bits = _bits(name, int(np.prod(shape)))
    return (bits >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0**-53


def _bits(name: str, count: int) -> Words:
    """Return 64 random bits for each place of a named sequence (SplitMix64)."""
    seed = np.uint64(0)
    for byte in name.encode():
        seed = _mix(np.asarray([seed + np.uint64(byte)]))[0]
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64
        places = seed + np.arange(1, count + 1, dtype=np.uint64) * _STEP
    return _mix(places)


_STEP: Final = np.uint64(0x9E3779B97F4A7C15)


def _mix(words: Words) -> Words:
    with np.errstate(over="ignore"):
        words = words + _STEP
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return words ^ (words >> np.uint64(31))

"""The speed that the machine itself allows: what an event costs, what it can do.

    seconds an event ≥ max(FLOP / (FLOP/s), exponentials / (exp/s), bytes / (bytes/s))

Three ceilings are measured: a large float32 matrix product, exponentials of an array,
and adding to an array too large for the caches. Counted of an event is what the
arithmetic cannot do without once the weights are folded: matrix products, elementary
functions, and its row of a table that no cache holds. All else counts as free, layer
weights and states too, and the three as if they took no time from each other: the
bound is above what any program can reach.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.cases import Model
from saccade.model.block import Block, LayerWeights, blocks

MATRIX: Final = 1024
EXPONENTIALS: Final = 1 << 20
STREAMED: Final = 1 << 25
"""Floats: 128 MiB."""

CACHE_BYTES: Final = 1 << 25
"""A table no larger than this may stay in a cache, and then costs no memory traffic."""

FLOAT_BYTES: Final = 4
EVENT_BYTES: Final = 8
"""A token and a timestep."""

MEASURED_S: Final = 1.0


class Ceilings(NamedTuple):
    """What the machine does in a second, at its best."""

    flops: float
    exponentials: float
    bytes: float


class Work(NamedTuple):
    """What one event costs at least.

    Attributes:
        flops: Of matrix products; a multiplication and an addition are two.
        exponentials: Elementary functions of one number; a complex exponential is
            three (exp, sin, cos).
        bytes: Read from memory.
    """

    flops: float
    exponentials: float
    bytes: float


class Bound(NamedTuple):
    """An event's cost, and the rate that no program can exceed."""

    work: Work
    events_per_second: float


def measure_ceilings() -> Ceilings:
    """Measure the machine."""
    square = jnp.ones((MATRIX, MATRIX))
    values = jnp.linspace(-1.0, 1.0, EXPONENTIALS)
    multiply, exponential = jax.jit(jnp.matmul), jax.jit(jnp.exp)
    return Ceilings(
        flops=2 * MATRIX**3 / _fastest(lambda: multiply(square, square)),
        exponentials=EXPONENTIALS / _fastest(lambda: exponential(values)),
        bytes=2 * FLOAT_BYTES * STREAMED / _fastest(_streaming()),
    )


def _streaming() -> Callable[[], Any]:
    """Return a call that reads and writes an array in place."""
    array = jnp.ones(STREAMED)
    add = jax.jit(lambda x: x + 1.0, donate_argnums=0)

    def call() -> Any:
        nonlocal array
        array = add(array)
        return array

    return call


def _fastest(call: Callable[[], Any]) -> float:
    """Return the seconds of the fastest of many calls."""
    jax.block_until_ready(call())  # type: ignore[no-untyped-call]
    taken: list[float] = []
    end = time.perf_counter() + MEASURED_S
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(call())  # type: ignore[no-untyped-call]
        taken.append(time.perf_counter() - start)
    return min(taken)


def work(model: Model) -> Work:
    """Count what one event costs."""
    tick, layers = model.config.tick_events, model.weights.layers
    flops = 2.0 * model.weights.decoder.kernel.size / tick
    exponentials, inputs = 0.0, 1.0
    for place, (block, layer) in enumerate(
        zip(blocks(model.config), layers, strict=True)
    ):
        groups = inputs / block.stride
        entering = 2 * layer.B.size if place else 0  # the table has it
        flops += inputs * entering + groups * _leaving(layer)
        exponentials += _exponentials(block, layer, inputs, groups)
        inputs = groups
    return Work(flops, exponentials, EVENT_BYTES + _row_bytes(model))


def _leaving(layer: LayerWeights) -> int:
    """Count the products of a stride group: C, D, the gate, the wider skip."""
    matrices = [layer.C, layer.gate.kernel]
    matrices += [layer.D] if layer.D.ndim == 2 else []
    matrices += [layer.skip_projection.kernel] if layer.skip_projection else []
    return sum(2 * matrix.size for matrix in matrices)


def _exponentials(
    block: Block, layer: LayerWeights, inputs: float, groups: float
) -> float:
    """Count the decays of all inputs, and GELU and sigmoid of all outputs."""
    states, features = layer.rates.real.size, layer.C.shape[1]
    return 3 * states * inputs + 2 * features * groups


def _row_bytes(model: Model) -> float:
    """Count an event's row of the table, where that is too large for a cache."""
    leaves = jax.tree.leaves(model.weights.table)
    size = float(sum(leaf.nbytes for leaf in leaves))
    return 0.0 if size <= CACHE_BYTES else size / len(leaves[0])


def bound(model: Model, ceilings: Ceilings) -> Bound:
    """Set an event's cost against what the machine can do."""
    cost = work(model)
    slowest = max(part / most for part, most in zip(cost, ceilings, strict=True))
    return Bound(cost, 1.0 / slowest)

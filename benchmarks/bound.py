"""The bound on events per second: an event's least cost by the machine's ceilings.

    seconds an event ≥ max(FLOP / (FLOP/s), exponentials / (exp/s), bytes / (bytes/s))

Three ceilings are measured: a large float32 matrix product, exponentials of an array,
and adding to an array too large for the caches. An event's cost is what remains once
the weights are folded: matrix products, elementary functions, and the event's row of a
table that no cache holds. All else counts as free, layer weights and states too, and
the three parts run as if at the same time: no program can exceed the bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jax
import jax.numpy as jnp

from saccade.model.block import Block, LayerWeights, blocks
from saccade.model.config import ModelConfig
from saccade.model.inference import Weights

if TYPE_CHECKING:
    from benchmarks.cases import Model

MATRIX: Final = 1024
EXPONENTIALS: Final = 1 << 20
STREAMED: Final = 1 << 25
"""Number of floats; 128 MiB."""

CACHE_BYTES: Final = 1 << 25
"""A table up to this size may stay in a cache, and then costs no memory traffic."""

FLOAT_BYTES: Final = 4
EVENT_BYTES: Final = 8
"""Bytes of a token and a timestep."""

MEASURED_S: Final = 1.0


class Ceilings(NamedTuple):
    """The machine's largest rates, per second."""

    flops: float
    exponentials: float
    bytes: float


class Work(NamedTuple):
    """The least cost of one event.

    Attributes:
        flops: Operations of matrix products; a multiplication and an addition are two.
        exponentials: Elementary functions of one number; a complex exponential is
            three (exp, sin, cos).
        bytes: Bytes read from memory.
    """

    flops: float
    exponentials: float
    bytes: float


class Bound(NamedTuple):
    """An event's cost, and the rate that no program can exceed."""

    work: Work
    events_per_second: float


def measure_ceilings() -> Ceilings:
    """Measure the machine's ceilings."""
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
    """Count the cost of one event."""
    return work_of(model.config, model.weights)


def work_of(config: ModelConfig, weights: Weights) -> Work:
    """Count the cost of one event of a network."""
    flops = 2.0 * weights.decoder.kernel.size / config.tick_events
    exponentials, inputs = 0.0, 1.0
    for place, (block, layer) in enumerate(
        zip(blocks(config), weights.layers, strict=True)
    ):
        groups = inputs / block.stride
        entering = 2 * layer.B.size if place else 0  # the first block has a table
        flops += inputs * entering + groups * _leaving(layer)
        exponentials += _exponentials(block, layer, inputs, groups)
        inputs = groups
    return Work(flops, exponentials, EVENT_BYTES + _row_bytes(weights))


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


def _row_bytes(weights: Weights) -> float:
    """Count an event's row of the table, where the table is too large for a cache."""
    leaves = jax.tree.leaves(weights.table)
    size = float(sum(leaf.nbytes for leaf in leaves))
    return 0.0 if size <= CACHE_BYTES else size / len(leaves[0])


def bound(model: Model, ceilings: Ceilings) -> Bound:
    """Return the bound from an event's cost and the machine's ceilings."""
    return bound_of(work(model), ceilings)


def bound_of(cost: Work, ceilings: Ceilings) -> Bound:
    """Return the bound from what an event costs."""
    slowest = max(part / most for part, most in zip(cost, ceilings, strict=True))
    return Bound(cost, 1.0 / slowest)

"""A network's weights and its plan, in the layout that compiled functions read.

The weights are one array, since each argument of a call costs time. Zeros pad each row
and column to a multiple of 16, and the padding stays zero through all layers. The
matrices of products lie in strips; see `matmul`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from math import prod
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from saccade.model.array_types import Array, Float
from saccade.model.block import blocks
from saccade.model.config import ModelConfig
from saccade.model.cpu_kernels import choices
from saccade.model.cpu_kernels.call import Layer, Plan
from saccade.model.cpu_kernels.machine import BLOCK_ROWS, LINE, OTHER_CORES
from saccade.model.cpu_kernels.matmul import in_strips
from saccade.model.inference import Carry, Weights
from saccade.model.readout import Readout
from saccade.model.state_rows import RowLayout

Floats = npt.NDArray[np.float32]

_EMPTY: Final = np.zeros(0, np.float32)

THREAD_WORK: Final = 35_000_000
"""Work that is worth a second thread, in multiply-adds: 0.75 ms on one core of Zen 4.

On two cores that thread takes the other one from an event loop beside, which then waits
for it as long as the call takes. The more cores there are, the less work will do.
"""
STATE_WORK: Final = 64
"""What a step of a complex state costs, with its exponential, in the same unit."""


class Sizes(NamedTuple):
    """A layer's input features, complex states and output features, not padded."""

    inputs: int
    states: int
    outputs: int


def layer_sizes(config: ModelConfig) -> list[Sizes]:
    """Return every layer's sizes, in order."""
    share = 2 if config.conj_sym else 1
    return [
        Sizes(
            config.features(stage if place else stage - 1),
            config.states(stage) // share,
            config.features(stage),
        )
        for stage in range(config.num_stages)
        for place in range(config.num_layers_per_stage)
    ]


def tick_work(config: ModelConfig) -> int:
    """Return about what a tick costs, in multiply-adds of padded matrices."""
    rows, work = float(config.tick_events), 0.0
    for place, (block, sizes) in enumerate(
        zip(blocks(config), layer_sizes(config), strict=True)
    ):
        inputs, states, outputs = map(padded, sizes)
        work += rows * states * STATE_WORK
        if place:  # the table holds the first layer's products
            work += rows * inputs * 2 * states
        rows /= block.stride
        projected = inputs * outputs * (sizes.inputs != sizes.outputs)
        work += rows * (2 * states * outputs + outputs * outputs + projected)
    return int(work)


def thread_ticks(config: ModelConfig) -> int:
    """Return how many ticks of a call are worth another thread."""
    return max(THREAD_WORK // (OTHER_CORES * tick_work(config)), 1)


@cache
def row_layout(config: ModelConfig) -> RowLayout:
    """Return the layout of a row of the pool."""
    sizes = layer_sizes(config)
    states = tuple(_struct((size.states,), jnp.complex64) for size in sizes)
    mean, number = _struct((sizes[-1].outputs,), jnp.float32), _struct((), jnp.float32)
    return RowLayout(Carry(states, Readout(mean, mean, *[number] * 4)))


def _struct(shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def padded(size: int) -> int:
    """Return a size, rounded up to whole lines."""
    return -(-size // LINE) * LINE


def plan(config: ModelConfig, rows: int, sessions: int, events: int) -> list[int]:
    """Return a call's plan: a `Plan`, then a `Layer` for each layer.

    Args:
        config: A configuration that is not `choices.unsupported`.
        rows: Rows of the pool.
        sessions: Sessions that have tokens.
        events: Tokens of each.
    """
    layers, parts = layer_sizes(config), iter(_begins(config))
    readout, layout = choices.readout(config), row_layout(config)
    head = Plan(
        sessions=sessions,
        events=events,
        layers=len(layers),
        tick=config.tick_events,
        pooling=choices.pooling(config),
        prenorm=config.prenorm,
        affine_norm=choices.affine(config),
        vocabulary=config.num_embeddings,
        classes=config.num_classes,
        timed=readout.timed,
        averages=readout.averages,
        holds=choices.holds(config),
        block_rows=BLOCK_ROWS,
        thread_ticks=thread_ticks(config),
        rows=rows,
        width=layout.width,
        readout=layout.columns[len(layers)].begin,
        table=next(parts),
        decoder=next(parts),
        decoder_bias=next(parts),
    )
    whole = [*map(int, head)]
    for place, (block, sizes) in enumerate(zip(blocks(config), layers, strict=True)):
        carry = layout.columns[place].begin
        numbers = [block.stride, *map(padded, sizes), *sizes, carry]
        missing = len(Layer._fields) - len(numbers)
        whole += Layer(*numbers, *(next(parts) for _ in range(missing)))
    return whole


def pack(config: ModelConfig, weights: Weights) -> Float[Array, " n"]:
    """Return the weights as one array."""
    host: Any = jax.tree.map(np.asarray, weights)  # XLA would compile each step
    drive, feed, skip = host.table
    table = np.concatenate([_pad(part, -1) for part in (*drive, feed, skip)], -1)
    parts = [table, *host.decoder]
    parts += [part for layer in host.layers for part in _parts(layer)]
    flat = [_pad(part.ravel(), 0) for part in parts]
    assert [*accumulate(map(len, flat[:-1]), initial=0)] == _begins(config)
    return jnp.asarray(np.concatenate(flat))


def _begins(config: ModelConfig) -> list[int]:
    """Return each part's index: the table, the decoder's parts, then each layer's."""
    *sizes, _ = (padded(prod(shape)) for shape in _shapes(config))
    return [*accumulate(sizes, initial=0)]


def _shapes(config: ModelConfig) -> Iterator[tuple[int, ...]]:
    """Yield the shape of each part, padded, in the order of `Plan` and `Layer`."""
    layers = layer_sizes(config)
    first, last = layers[0], layers[-1]
    yield config.num_embeddings, 2 * (padded(first.states) + padded(first.inputs))
    yield last.outputs, config.num_classes
    yield (config.num_classes,)
    for size in layers:
        inputs, states, outputs = map(padded, size)
        projects = size.inputs != size.outputs
        norm = inputs if config.prenorm else outputs
        yield from ((states,), (states,), (inputs, 2 * states), (2 * states, outputs))
        yield (inputs, outputs) if projects else (inputs,)
        yield from ((outputs, outputs), (outputs,))
        yield from ((norm,), (norm,))
        yield from ((inputs, outputs), (outputs,)) if projects else ((0,), (0,))


def _parts(layer: Any) -> Iterator[Floats]:
    """Yield the arrays of a `LayerWeights` on the host, in the order of `Layer`."""
    yield from (_pad(part, 0) for part in layer.rates)
    yield in_strips(_pad(_pad_halves(layer.B), 0))
    yield in_strips(_pad(_pad_halves(layer.C.T).T, -1))
    yield _pad_weights(layer.D)
    yield from map(_pad_weights, layer.gate)
    yield from map(_pad_weights, layer.norm)
    yield from map(_pad_weights, layer.skip_projection or (_EMPTY, _EMPTY))


def _pad_halves(rows: Floats) -> Floats:
    """Pad the real and the imaginary half of each row."""
    return np.concatenate([_pad(half, -1) for half in np.split(rows, 2, -1)], -1)


def _pad_weights(x: Floats) -> Floats:
    """Return a padded vector, or a padded matrix in strips."""
    for axis in range(x.ndim):
        x = _pad(x, axis)
    return in_strips(x) if x.ndim == 2 else x


def _pad(x: Floats, axis: int) -> Floats:
    """Return x with zeros at an axis's end, up to a whole number of lines."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, padded(x.shape[axis]) - x.shape[axis])
    return np.pad(x, widths)

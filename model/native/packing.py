"""A network's weights as compiled functions read them: one array of whole vectors.

Zeros fill each row and column up to a multiple of 16, and what they stand for stays
zero through all layers. One array, since each argument of a call costs it time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from math import prod
from typing import Final, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from model.config import ModelConfig
from model.layer_weights import LayerWeights
from model.native.vectors import WIDTH
from model.network import Weights
from model.planes import Planes, halves, side_by_side

PARTS: Final = 11
"""Arrays of a layer."""


class Sizes(NamedTuple):
    """A layer's sizes.

    Attributes:
        inputs: Features in.
        states: Complex states.
        outputs: Features out.
    """

    inputs: int
    states: int
    outputs: int


def sizes(config: ModelConfig) -> list[Sizes]:
    """Return every layer's sizes, in order."""
    return [
        Sizes(
            config.features(stage if place else stage - 1),
            config.states(stage),
            config.features(stage),
        )
        for stage in range(config.num_stages)
        for place in range(config.num_layers_per_stage)
    ]


def filled(size: int) -> int:
    """Return a size in whole vectors."""
    return -(-size // WIDTH) * WIDTH


def pack(config: ModelConfig, weights: Weights) -> Float[Array, " n"]:
    """Lay weights out for `advance`."""
    drive, feed, skip = weights.table
    table = jnp.concatenate([_fill(part, -1) for part in (*drive, feed, skip)], -1)
    parts = [table, *weights.decoder]
    parts += [part for layer in weights.layers for part in _parts(layer)]
    flat = [_fill(part.ravel(), 0) for part in parts]
    begins, size = _layout(config)
    assert [*accumulate(map(len, flat), initial=0)] == [*begins, size]
    return jnp.concatenate(flat)


def _layout(config: ModelConfig) -> tuple[list[int], int]:
    """Return where each part begins in the array, and the array's size."""
    ends = [*accumulate(filled(prod(shape)) for shape in _shapes(config))]
    return [0, *ends[:-1]], ends[-1]


def begins(config: ModelConfig) -> list[int]:
    """Return where each part begins: the table, the decoder's, then each layer's."""
    return _layout(config)[0]


def _shapes(config: ModelConfig) -> Iterator[tuple[int, ...]]:
    first, last = sizes(config)[0], sizes(config)[-1]
    yield config.num_embeddings, 2 * (filled(first.states) + filled(first.inputs))
    yield last.outputs, config.num_classes
    yield (config.num_classes,)
    for size in sizes(config):
        inputs, states, outputs = map(filled, size)
        wide = size.inputs != size.outputs
        yield from ((states,), (states,), (inputs, 2 * states), (2 * states, outputs))
        yield (inputs, outputs) if wide else (inputs,)
        yield from ((outputs, outputs), (outputs,))
        yield from ((outputs if config.prenorm is False else inputs,),) * 2
        yield from ((inputs, outputs), (outputs,)) if wide else ((0,), (0,))


def _parts(layer: LayerWeights) -> Iterator[Array]:
    """Yield a layer's arrays in the order of `call.Layer`."""
    drive = Planes(*(_fill(plane, -1) for plane in halves(layer.B)))
    read = Planes(*(_fill(plane, -1) for plane in halves(layer.C.T)))
    yield from (_fill(plane, 0) for plane in layer.rates)
    yield _fill(side_by_side(drive), 0)
    yield _fill(side_by_side(read).T, -1)
    yield _fill_all(layer.D)
    yield from map(_fill_all, layer.gate)
    yield from map(_fill_all, layer.norm)
    yield from map(_fill_all, layer.widen or (jnp.zeros(0), jnp.zeros(0)))


def _fill_all(x: Array) -> Array:
    for axis in range(x.ndim):
        x = _fill(x, axis)
    return x


def _fill(x: Array, axis: int) -> Array:
    """Return x with zeros at an axis's end, up to a whole number of vectors."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, filled(x.shape[axis]) - x.shape[axis])
    return jnp.pad(x, widths)

"""A network's weights as compiled functions read them: one array of whole vectors.

Zeros fill each row and column up to a multiple of 16, and what they stand for stays
zero through all layers. One array, since each argument of a call costs it time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from math import prod
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from saccade.model.config import ModelConfig
from saccade.model.cpu_kernels.vectors import WIDTH
from saccade.model.inference import Weights

Floats = npt.NDArray[np.float32]

PARTS: Final = 11
"""Arrays of a layer."""

_NOTHING: Final = np.zeros(0, np.float32)


class Sizes(NamedTuple):
    """A layer's sizes.

    Attributes:
        inputs: Features in.
        states: SplitComplex states.
        outputs: Features out.
    """

    inputs: int
    states: int
    outputs: int


def sizes(config: ModelConfig) -> list[Sizes]:
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


def filled(size: int) -> int:
    """Return a size in whole vectors."""
    return -(-size // WIDTH) * WIDTH


def pack(config: ModelConfig, weights: Weights) -> Float[Array, " n"]:
    """Lay weights out for `advance`."""
    host: Any = jax.tree.map(np.asarray, weights)  # XLA would compile each step
    drive, feed, skip = host.table
    table = np.concatenate([_fill(part, -1) for part in (*drive, feed, skip)], -1)
    parts = [table, *host.decoder]
    parts += [part for layer in host.layers for part in _parts(layer)]
    flat = [_fill(part.ravel(), 0) for part in parts]
    assert [*accumulate(map(len, flat[:-1]), initial=0)] == begins(config)
    return jnp.asarray(np.concatenate(flat))


def begins(config: ModelConfig) -> list[int]:
    """Return where each part begins: the table, the decoder's, then each layer's."""
    *sizes, _ = (filled(prod(shape)) for shape in _shapes(config))
    return [*accumulate(sizes, initial=0)]


def _shapes(config: ModelConfig) -> Iterator[tuple[int, ...]]:
    first, last = sizes(config)[0], sizes(config)[-1]
    yield config.num_embeddings, 2 * (filled(first.states) + filled(first.inputs))
    yield last.outputs, config.num_classes
    yield (config.num_classes,)
    for size in sizes(config):
        inputs, states, outputs = map(filled, size)
        wide = size.inputs != size.outputs
        norm = inputs if config.prenorm else outputs
        yield from ((states,), (states,), (inputs, 2 * states), (2 * states, outputs))
        yield (inputs, outputs) if wide else (inputs,)
        yield from ((outputs, outputs), (outputs,))
        yield from ((norm,), (norm,))
        yield from ((inputs, outputs), (outputs,)) if wide else ((0,), (0,))


def _parts(layer: Any) -> Iterator[Floats]:
    """Yield the arrays of `LayerWeights` on the host in the order of `call.Layer`."""
    yield from (_fill(plane, 0) for plane in layer.rates)
    yield _fill(_fill_planes(layer.B), 0)
    yield _fill(_fill_planes(layer.C.T).T, -1)
    yield _fill_all(layer.D)
    yield from map(_fill_all, layer.gate)
    yield from map(_fill_all, layer.norm)
    yield from map(_fill_all, layer.widen or (_NOTHING, _NOTHING))


def _fill_planes(rows: Floats) -> Floats:
    return np.concatenate([_fill(plane, -1) for plane in np.split(rows, 2, -1)], -1)


def _fill_all(x: Floats) -> Floats:
    for axis in range(x.ndim):
        x = _fill(x, axis)
    return x


def _fill(x: Floats, axis: int) -> Floats:
    """Return x with zeros at an axis's end, up to a whole number of vectors."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, filled(x.shape[axis]) - x.shape[axis])
    return np.pad(x, widths)

"""A layer's operations on each row alone: norms, feedthrough, activation and gate.

Rows have `width` numbers, a multiple of 16; those past a layer's size are zero.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from saccade.model.block import NORM_EPSILON
from saccade.model.cpu_kernels.functions import gelu, sigmoid
from saccade.model.cpu_kernels.vectors import (
    WIDTH,
    broadcast,
    compiled,
    fma,
    load,
    reduce_add,
    sqrt,
    store,
)

_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)
_EPSILON: Final = np.float32(NORM_EPSILON)


@compiled
def layer_norm(
    x: int, scale: int, shift: int, rows: int, real_width: int, width: int, result: int
) -> None:
    """Normalise each row of (rows, width) by its own mean and variance.

    `result` may be `x`. Past `real_width`, x, scale and shift are zero.
    """
    part = _ONE / np.float32(real_width)
    for at in range(0, rows * width, width):
        added = broadcast(_ZERO)
        squares = broadcast(_ZERO)
        for v in range(at, at + width, WIDTH):
            value = load(x, v)
            added = added + value
            squares = fma(value, value, squares)
        mean = reduce_add(added) * part
        variance = max(reduce_add(squares) * part - mean * mean, _ZERO)
        inverse = broadcast(_ONE) / sqrt(broadcast(variance + _EPSILON))
        for v in range(0, width, WIDTH):
            value = load(x, at + v) - broadcast(mean)
            value = fma(value, inverse * load(scale, v), load(shift, v))
            store(result, at + v, value)


@compiled
def affine_norm(
    x: int, scale: int, shift: int, rows: int, width: int, result: int
) -> None:
    """Scale and shift each row of (rows, width); `result` may be `x`."""
    for at in range(0, rows * width, width):
        for v in range(0, width, WIDTH):
            value = fma(load(x, at + v), load(scale, v), load(shift, v))
            store(result, at + v, value)


@compiled
def add_feedthrough(
    feed: int, D: int, rows: int, width: int, y: int, active: int
) -> None:
    """Add feed·D to y (rows, width), D a vector; write `active` = GELU(y)."""
    for at in range(0, rows * width, width):
        for v in range(0, width, WIDTH):
            value = fma(load(feed, at + v), load(D, v), load(y, at + v))
            store(y, at + v, value)
            store(active, at + v, gelu(value))


@compiled
def add_matrix(more: int, rows: int, width: int, y: int, active: int) -> None:
    """Add `more` to y, both (rows, width); write `active` = GELU(y)."""
    for v in range(0, rows * width, WIDTH):
        value = load(y, v) + load(more, v)
        store(y, v, value)
        store(active, v, gelu(value))


@compiled
def add_bias(x: int, bias: int, rows: int, width: int) -> None:
    """Add a bias to each row of x (rows, width)."""
    for at in range(0, rows * width, width):
        for v in range(0, width, WIDTH):
            store(x, at + v, load(x, at + v) + load(bias, v))


@compiled
def gate_and_add(
    y: int, gate: int, bias: int, skip: int, rows: int, width: int, result: int
) -> None:
    """Write skip + y·σ(gate + bias), (rows, width); `result` may be `skip`."""
    for at in range(0, rows * width, width):
        for v in range(0, width, WIDTH):
            opened = sigmoid(load(gate, at + v) + load(bias, v))
            value = fma(load(y, at + v), opened, load(skip, at + v))
            store(result, at + v, value)

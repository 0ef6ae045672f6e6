"""What a layer does with each row alone: norms, and from states to outputs."""

from __future__ import annotations

from typing import Final

import numpy as np

from saccade.model.block import NORM_EPSILON
from saccade.model.cpu_kernels.functions import gelu, sigmoid
from saccade.model.cpu_kernels.vectors import (
    compiled,
    fill,
    fma,
    load,
    root,
    store,
    total,
)

_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)
_EPSILON: Final = np.float32(NORM_EPSILON)


@compiled
def layer_norm(
    x: int, scale: int, shift: int, rows: int, real_width: int, width: int, result: int
) -> None:
    """Normalise each row of (rows, width) by its own mean and variance, maybe in place.

    What lies past `real_width` is zero, and so are its scale and shift.
    """
    part = _ONE / np.float32(real_width)
    for at in range(0, rows * width, width):
        added = fill(_ZERO)
        squares = fill(_ZERO)
        for v in range(at, at + width, 16):
            value = load(x, v)
            added = added + value
            squares = fma(value, value, squares)
        mean = total(added) * part
        variance = max(total(squares) * part - mean * mean, _ZERO)
        inverse = fill(_ONE) / root(fill(variance + _EPSILON))
        for v in range(0, width, 16):
            value = load(x, at + v) - fill(mean)
            value = fma(value, inverse * load(scale, v), load(shift, v))
            store(result, at + v, value)


@compiled
def affine_norm(
    x: int, scale: int, shift: int, rows: int, width: int, result: int
) -> None:
    """Scale and shift each row of (rows, width), maybe in place."""
    for at in range(0, rows * width, width):
        for v in range(0, width, 16):
            value = fma(load(x, at + v), load(scale, v), load(shift, v))
            store(result, at + v, value)


@compiled
def pass_on(feed: int, D: int, rows: int, width: int, y: int, active: int) -> None:
    """Add feed·D, D a vector, to y (rows, width); activate that."""
    for at in range(0, rows * width, width):
        for v in range(0, width, 16):
            value = fma(load(feed, at + v), load(D, v), load(y, at + v))
            store(y, at + v, value)
            store(active, at + v, gelu(value))


@compiled
def add(more: int, rows: int, width: int, y: int, active: int) -> None:
    """Add more to y (rows, width); activate that."""
    for v in range(0, rows * width, 16):
        value = load(y, v) + load(more, v)
        store(y, v, value)
        store(active, v, gelu(value))


@compiled
def shift(x: int, bias: int, rows: int, width: int) -> None:
    """Add a bias to each row of x (rows, width)."""
    for at in range(0, rows * width, width):
        for v in range(0, width, 16):
            store(x, at + v, load(x, at + v) + load(bias, v))


@compiled
def gate(
    y: int, closed: int, bias: int, skip: int, rows: int, width: int, result: int
) -> None:
    """Write skip + y·σ(closed + bias), (rows, width), maybe in the skip's place."""
    for at in range(0, rows * width, width):
        for v in range(0, width, 16):
            opened = sigmoid(load(closed, at + v) + load(bias, v))
            value = fma(load(y, at + v), opened, load(skip, at + v))
            store(result, at + v, value)

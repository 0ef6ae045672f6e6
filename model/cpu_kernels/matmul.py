"""Matrix products, tile by tile, each tile's sums in registers.

Every sum runs over k in order, so that a row's product is the same to the last bit
however many rows there are. The weights lie in strips of `LINE` columns, one after
the other: a tile reads them in order, and the strip stays in the first cache, where
rows as long as a matrix's would displace each other.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from saccade.model.cpu_kernels.machine import LINE, MACHINE
from saccade.model.cpu_kernels.vectors import (
    FLOAT,
    LONG,
    VECTOR,
    WIDTH,
    compiled,
    fused_multiply_add,
    intrinsic,
    pointer,
    splat,
)

_VECTORS: Final = LINE // WIDTH


def in_strips(w: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return weights (depth, width) as strips (width/16, depth, 16)."""
    strips = w.reshape(len(w), -1, LINE).transpose(1, 0, 2)
    return np.ascontiguousarray(strips)


def _tile(rows: int, strips: int) -> Any:
    """Return an operation that writes a tile of y = x @ w: rows × strips."""

    @intrinsic
    def tile(typing: Any, x: Any, w: Any, y: Any, depth: Any, width: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, w, y, depth, width = args
            sums = _sum_over_k(builder, (rows, strips), x, w, depth)
            for row, values in enumerate(sums):
                begin = builder.mul(width, ir.Constant(LONG, row))
                for column, value in enumerate(values):
                    where = _vector_at(builder, y, begin, column)
                    builder.store(value, where, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), generate

    return tile


def _sum_over_k(
    builder: Any, shape: tuple[int, int], x: Any, w: Any, depth: Any
) -> list[list[Any]]:
    """Generate the loop over k; return the vectors of sums, row by row."""
    rows, strips = shape
    step = builder.mul(depth, ir.Constant(LONG, LINE))
    begins = [builder.mul(step, ir.Constant(LONG, strip)) for strip in range(strips)]
    lines = [builder.mul(depth, ir.Constant(LONG, row)) for row in range(rows)]
    before = builder.block
    loop, done = (builder.append_basic_block(name) for name in ("k", "done"))
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(LONG)
    vectors = range(strips * _VECTORS)
    sums = [[builder.phi(VECTOR) for _ in vectors] for _ in range(rows)]
    at = builder.mul(k, ir.Constant(LONG, LINE))
    weights = [
        builder.load(_vector_at(builder, w, builder.add(begin, at), vector), align=4)
        for begin in begins
        for vector in range(_VECTORS)
    ]
    after = []
    for line, row in zip(lines, sums, strict=True):
        index = builder.add(line, k)
        number = splat(builder, builder.load(pointer(builder, x, index, FLOAT)))
        pairs = zip(weights, row, strict=True)
        after.append([fused_multiply_add(builder, number, *pair) for pair in pairs])
    following = builder.add(k, ir.Constant(LONG, 1))
    k.add_incoming(ir.Constant(LONG, 0), before)
    k.add_incoming(following, loop)
    for old, new in zip(chain(*sums), chain(*after), strict=True):
        old.add_incoming(ir.Constant(VECTOR, [0.0] * WIDTH), before)
        old.add_incoming(new, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)
    builder.position_at_end(done)
    return after


def _vector_at(builder: Any, address: Any, begin: Any, vector: int) -> Any:
    index = builder.add(begin, ir.Constant(LONG, vector * WIDTH))
    return pointer(builder, address, index, VECTOR)


def _many_rows(rows: int, strips: int) -> Any:
    """Return a function that multiplies a multiple of `rows` rows, tile by tile."""
    wide, narrow = _tile(rows, strips), _tile(rows, 1)
    columns = strips * LINE

    @compiled
    def multiply_rows(
        x: int, w: int, y: int, begin: int, end: int, depth: int, width: int
    ) -> None:
        rest = width // columns * columns
        for j in range(0, rest, columns):
            for i in range(begin, end, rows):
                at = y + 4 * (i * width + j)
                wide(x + 4 * i * depth, w + 4 * j * depth, at, depth, width)
        for j in range(rest, width, LINE):
            for i in range(begin, end, rows):
                at = y + 4 * (i * width + j)
                narrow(x + 4 * i * depth, w + 4 * j * depth, at, depth, width)

    return multiply_rows


_many, _some, _few, _one = (_many_rows(*tile) for tile in MACHINE.tiles)
_MANY, _SOME, _FEW, _ = (rows for rows, _ in MACHINE.tiles)


@compiled
def matmul(x: int, w: int, y: int, rows: int, depth: int, width: int) -> None:
    """Write y = x @ w: x (rows, depth), w (depth, width) in strips, y (rows, width)."""
    done = rows // _MANY * _MANY
    _many(x, w, y, 0, done, depth, width)
    end = done + (rows - done) // _SOME * _SOME
    _some(x, w, y, done, end, depth, width)
    done, end = end, end + (rows - end) // _FEW * _FEW
    _few(x, w, y, done, end, depth, width)
    _one(x, w, y, end, rows, depth, width)

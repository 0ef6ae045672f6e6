"""Matrix products, tile by tile, each tile's sums in registers.

Every sum runs over k in order, so that a row's product is the same to the last bit
however many rows there are.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, types

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


def _tile(rows: int, vectors: int) -> Any:
    """Return an operation that writes a tile of y = x @ w: rows × vectors."""

    @intrinsic
    def tile(typing: Any, x: Any, w: Any, y: Any, depth: Any, width: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, w, y, depth, width = args
            sums = _sum_over_k(builder, (rows, vectors), x, w, depth, width)
            for row, values in enumerate(sums):
                begin = builder.mul(width, ir.Constant(LONG, row))
                for column, value in enumerate(values):
                    where = _vector_at(builder, y, begin, column)
                    builder.store(value, where, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), generate

    return tile


def _sum_over_k(
    builder: Any, shape: tuple[int, int], x: Any, w: Any, depth: Any, width: Any
) -> list[list[Any]]:
    """Generate the loop over k; return the vectors of sums, row by row."""
    rows, vectors = shape
    before = builder.block
    loop, done = (builder.append_basic_block(name) for name in ("k", "done"))
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(LONG)
    sums = [[builder.phi(VECTOR) for _ in range(vectors)] for _ in range(rows)]
    begin = builder.mul(k, width)
    weights = [
        builder.load(_vector_at(builder, w, begin, column), align=4)
        for column in range(vectors)
    ]
    after = []
    for row in range(rows):
        index = builder.add(builder.mul(depth, ir.Constant(LONG, row)), k)
        number = splat(builder, builder.load(pointer(builder, x, index, FLOAT)))
        pairs = zip(weights, sums[row], strict=True)
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


def _vector_at(builder: Any, address: Any, begin: Any, column: int) -> Any:
    index = builder.add(begin, ir.Constant(LONG, column * WIDTH))
    return pointer(builder, address, index, VECTOR)


def _strip(rows: int, vectors: int) -> Any:
    """Return a function that multiplies a multiple of `rows` rows, tile by tile."""
    wide, narrow = _tile(rows, vectors), _tile(rows, 1)
    columns = vectors * WIDTH

    @compiled
    def multiply_rows(
        x: int, w: int, y: int, begin: int, end: int, depth: int, width: int
    ) -> None:
        rest = width // columns * columns
        for j in range(0, rest, columns):
            for i in range(begin, end, rows):
                at = y + 4 * (i * width + j)
                wide(x + 4 * i * depth, w + 4 * j, at, depth, width)
        for j in range(rest, width, WIDTH):
            for i in range(begin, end, rows):
                at = y + 4 * (i * width + j)
                narrow(x + 4 * i * depth, w + 4 * j, at, depth, width)

    return multiply_rows


def _shapes() -> tuple[tuple[int, int], ...]:
    """Return the tiles (rows, vectors) for eight rows at a time, for four, two and one.

    A tile has as many sums as fit into registers, of which AVX-512 has 32, and enough
    of them to hide the latency of an addition.
    """
    wide = get_host_cpu_features().get("avx512f", False) and not config.CPU_NAME
    return (
        ((8, 2), (4, 4), (2, 8), (1, 16)) if wide else ((4, 1), (4, 1), (2, 2), (1, 4))
    )


_eights, _four, _two, _one = (_strip(*shape) for shape in _shapes())


@compiled
def matmul(x: int, w: int, y: int, rows: int, depth: int, width: int) -> None:
    """Write y = x @ w: x (rows, depth), w (depth, width), width a multiple of 16."""
    done = rows // 8 * 8
    _eights(x, w, y, 0, done, depth, width)
    if rows & 4:
        _four(x, w, y, done, done + 4, depth, width)
        done += 4
    if rows & 2:
        _two(x, w, y, done, done + 2, depth, width)
        done += 2
    if rows & 1:
        _one(x, w, y, done, done + 1, depth, width)

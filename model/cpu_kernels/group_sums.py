"""The sums over stride groups: contributions to the states, and weighted means.

A complex row is its real parts followed by its imaginary parts, (2·states,).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from saccade.model.cpu_kernels.choices import ELAPSED, FIRST
from saccade.model.cpu_kernels.functions import (
    complex_exp,
    complex_exp_near,
    complex_expm1,
    complex_fma,
    complex_multiply,
    load_rates,
    near,
)
from saccade.model.cpu_kernels.machine import LINE
from saccade.model.cpu_kernels.memory import load_f32, load_i32, store_f32
from saccade.model.cpu_kernels.vectors import (
    WIDTH,
    Lanes,
    broadcast,
    compiled,
    fma,
    inlined,
    load,
    prefetch,
    store,
)
from saccade.model.pooling import EPSILON_MS

_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)
_EPSILON_MS: Final = np.float32(EPSILON_MS)


class Groups(NamedTuple):
    """Some stride groups; all fields are int64, and addresses except the first two.

    Attributes:
        rows: Number of groups; each becomes a row.
        stride: Tokens in each.
        indices: Each token's row among the projections, int32.
        gaps: Before each token, ms; `weigh` replaces them by each group's duration.
        token_gaps: A copy of the gaps.
        left: From each token to its group's end, ms.
        shares: Each token's weight in its group's mean.
        first_gaps: Each group's first gap, ms.
    """

    rows: int
    stride: int
    indices: int
    gaps: int
    token_gaps: int
    left: int
    shares: int
    first_gaps: int


class Projections(NamedTuple):
    """A layer's projections of its inputs; see `pooling.Projected`.

    Attributes:
        drive: Address of the drives, complex rows.
        drive_step: Numbers from one row to the next.
        feed: Address.
        skip: Address.
        step: Numbers from one row of `feed` or `skip` to the next.
        prefetched: Numbers of a row, from `drive` on, to fetch ahead of use.
    """

    drive: int
    drive_step: int
    feed: int
    skip: int
    step: int
    prefetched: int


@compiled
def weigh(groups: Groups, pooling: int) -> None:
    """Fill in all of the groups that the gaps determine."""
    stride = groups.stride
    for group in range(groups.rows):
        begin = group * stride
        behind = _ZERO
        weights = _ZERO
        for i in range(begin + stride - 1, begin - 1, -1):
            gap = load_f32(groups.gaps, i)
            store_f32(groups.token_gaps, i, gap)
            store_f32(groups.left, i, behind)
            behind = behind + gap
            weight = _ONE
            if pooling == ELAPSED:
                weight = gap + _EPSILON_MS
            elif pooling == FIRST and i > begin:
                weight = _ZERO
            store_f32(groups.shares, i, weight)
            weights = weights + weight
        for i in range(begin, begin + stride):
            store_f32(groups.shares, i, load_f32(groups.shares, i) / weights)
        store_f32(groups.first_gaps, group, load_f32(groups.gaps, begin))
        store_f32(groups.gaps, group, behind)


@inlined
def fetch(tokens: Projections, index: int, begin: int, step: int) -> None:
    """Begin to fetch a row of the projections: every `step` numbers from `begin` on."""
    at = tokens.drive_step * index
    for v in range(at + begin, at + tokens.prefetched, step):
        prefetch(tokens.drive, v)


@inlined
def fetch_ahead(
    groups: Groups, i: int, ahead: int, tokens: Projections, v: int, size: int
) -> None:
    """Begin to fetch a part of the row that is `ahead` tokens later, if any.

    A core has few lines under way at a time, so each token fetches a few.
    """
    if ahead and v % LINE == 0:
        fetch(tokens, load_i32(groups.indices, i + ahead), v, size)


@compiled
def fetch_first(groups: Groups, tokens: Projections) -> None:
    """Begin to fetch the first group's projections."""
    for i in range(groups.stride):
        fetch(tokens, load_i32(groups.indices, i), 0, LINE)


@inlined
def entering(
    groups: Groups,
    i: int,
    tokens: Projections,
    v: int,
    size: int,
    holds: int,
    rates: tuple[Lanes, Lanes],
) -> tuple[Lanes, Lanes]:
    """Return a token's contribution to states v to v + WIDTH - 1 when it enters."""
    at = tokens.drive_step * load_i32(groups.indices, i) + v
    real, imag = load(tokens.drive, at), load(tokens.drive, at + size)
    if holds:
        gap = broadcast(load_f32(groups.token_gaps, i))
        c, d = complex_expm1(rates[0], rates[1], gap)
        real, imag = complex_multiply(real, imag, c, d)
    return real, imag


@compiled
def sum_states(
    groups: Groups,
    group: int,
    tokens: Projections,
    rates: tuple[int, int],
    size: int,
    holds: int,
    total: int,
    first: int,
) -> None:
    """Sum a group's contributions to the states, and begin to fetch the next group.

    Args:
        groups: All groups.
        group: Index of the group.
        tokens: The tokens' projections.
        rates: Addresses of both parts of ΛΔ, each (size,).
        size: States.
        holds: Whether an input acts during its whole gap.
        total: Result (groups, 2·size): all tokens' contribution at the group's end.
        first: Result (groups, 2·size): the first token's contribution when it enters.
            May be `tokens.drive`: no group's tokens lie before the group's own row.
    """
    begin, out = group * groups.stride, 2 * group * size
    ahead = groups.stride if group + 1 < groups.rows else 0
    span_ms = load_f32(groups.left, begin)
    for v in range(0, size, WIDTH):
        some = load_rates(rates, v)
        head_real, head_imag = entering(groups, begin, tokens, v, size, holds, some)
        sum_real = broadcast(_ZERO)
        sum_imag = broadcast(_ZERO)
        if near(some, span_ms):
            for i in range(begin, begin + groups.stride):
                fetch_ahead(groups, i, ahead, tokens, v, size)
                a, b = entering(groups, i, tokens, v, size, holds, some)
                left_ms = broadcast(load_f32(groups.left, i))
                c, d = complex_exp_near(some[0], some[1], left_ms)
                sum_real, sum_imag = complex_fma(a, b, c, d, sum_real, sum_imag)
        else:
            for i in range(begin, begin + groups.stride):
                fetch_ahead(groups, i, ahead, tokens, v, size)
                a, b = entering(groups, i, tokens, v, size, holds, some)
                left_ms = broadcast(load_f32(groups.left, i))
                c, d = complex_exp(some[0], some[1], left_ms)
                sum_real, sum_imag = complex_fma(a, b, c, d, sum_real, sum_imag)
        store(total, out + v, sum_real)
        store(total, out + size + v, sum_imag)
        store(first, out + v, head_real)
        store(first, out + size + v, head_imag)


@compiled
def sum_mean(
    groups: Groups, group: int, rows: int, step: int, width: int, mean: int
) -> None:
    """Write a group's weighted mean into its row of (groups, width).

    `mean` may be `rows`, as in `sum_states`.
    """
    begin = group * groups.stride
    for v in range(0, width, WIDTH):
        added = broadcast(_ZERO)
        for i in range(begin, begin + groups.stride):
            at = step * load_i32(groups.indices, i) + v
            share = broadcast(load_f32(groups.shares, i))
            added = fma(share, load(rows, at), added)
        store(mean, group * width + v, added)

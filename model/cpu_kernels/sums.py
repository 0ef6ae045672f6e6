"""What stride groups add up to.

Both planes of what a row drives lie side by side, (2·states,), as matrix products
take them. The rows of a matrix follow each other.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from saccade.model.cpu_kernels.functions import (
    decay,
    hold,
    rates_at,
    times,
    times_plus,
)
from saccade.model.cpu_kernels.memory import number, put, whole
from saccade.model.cpu_kernels.vectors import (
    Lanes,
    compiled,
    fill,
    fma,
    inlined,
    load,
    prefetch,
    store,
)
from saccade.model.pooling import EPSILON_MS

WEIGHTINGS: Final = {"last": 0, "avgpool": 1, "timepool": 2}
_FIRST: Final = WEIGHTINGS["last"]
_ELAPSED: Final = WEIGHTINGS["timepool"]
_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)
_EPSILON_MS: Final = np.float32(EPSILON_MS)


class Groups(NamedTuple):
    """Some stride groups; all are int64, and all but the first two are addresses.

    Attributes:
        rows: How many; each becomes a row.
        stride: Tokens in each.
        members: Each token's row among the projections, int32.
        gaps: Before each token, ms; becomes each group's duration.
        held: A copy of the gaps.
        left: From each token to its group's end, ms.
        shares: Each token's in its group's mean.
        first_gaps: Each group's first gap, ms.
    """

    rows: int
    stride: int
    members: int
    gaps: int
    held: int
    left: int
    shares: int
    first_gaps: int


class Projections(NamedTuple):
    """What a layer makes of inputs before it looks at time; see `groups.Projected`.

    Attributes:
        drive: Address of both planes, side by side.
        drive_step: Numbers from one row to the next.
        feed: Address.
        skip: Address.
        step: Numbers from one row of either to the next.
        fetched: Numbers of a row, from `drive` on, that no cache is expected to hold.
    """

    drive: int
    drive_step: int
    feed: int
    skip: int
    step: int
    fetched: int


@compiled
def weigh(groups: Groups, weighting: int) -> None:
    """Fill in what the gaps alone determine."""
    stride = groups.stride
    for group in range(groups.rows):
        begin = group * stride
        behind = _ZERO
        weights = _ZERO
        for i in range(begin + stride - 1, begin - 1, -1):
            gap = number(groups.gaps, i)
            put(groups.held, i, gap)
            put(groups.left, i, behind)
            behind = behind + gap
            weight = _ONE
            if weighting == _ELAPSED:
                weight = gap + _EPSILON_MS
            elif weighting == _FIRST and i > begin:
                weight = _ZERO
            put(groups.shares, i, weight)
            weights = weights + weight
        for i in range(begin, begin + stride):
            put(groups.shares, i, number(groups.shares, i) / weights)
        put(groups.first_gaps, group, number(groups.gaps, begin))
        put(groups.gaps, group, behind)


@compiled
def fetch(
    groups: Groups, group: int, tokens: Projections, begin: int, step: int
) -> None:
    """Begin to fetch what a group sums up: every `step` numbers from `begin` on."""
    for i in range(group * groups.stride, (group + 1) * groups.stride):
        at = tokens.drive_step * whole(groups.members, i)
        for v in range(at + begin, at + tokens.fetched, step):
            prefetch(tokens.drive, v)


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
    """Return what a token adds to some states when it comes; see `sum_states`."""
    at = tokens.drive_step * whole(groups.members, i) + v
    real, imag = load(tokens.drive, at), load(tokens.drive, at + size)
    if holds:
        c, d = hold(rates[0], rates[1], fill(number(groups.held, i)))
        real, imag = times(real, imag, c, d)
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
    """Sum up what a group adds to the states, and begin to fetch the next group.

    Args:
        groups: All groups.
        group: Which of them.
        tokens: What their tokens add.
        rates: Addresses of both planes of ΛΔ, (size,).
        size: States.
        holds: Whether a token adds the more the longer its gap is.
        total: Result (groups, 2·size): what is left of all at the group's end.
        first: Likewise: what the first token adds when it comes. May take the place
            of what is summed up: no group lies before its own row.
    """
    begin, out = group * groups.stride, 2 * group * size
    for v in range(0, size, 16):
        if group + 1 < groups.rows:
            fetch(groups, group + 1, tokens, v, size)
        some = rates_at(rates, v)
        head_real, head_imag = entering(groups, begin, tokens, v, size, holds, some)
        sum_real = fill(_ZERO)
        sum_imag = fill(_ZERO)
        for i in range(begin, begin + groups.stride):
            a, b = entering(groups, i, tokens, v, size, holds, some)
            c, d = decay(some[0], some[1], fill(number(groups.left, i)))
            sum_real, sum_imag = times_plus(a, b, c, d, sum_real, sum_imag)
        store(total, out + v, sum_real)
        store(total, out + size + v, sum_imag)
        store(first, out + v, head_real)
        store(first, out + size + v, head_imag)


@compiled
def sum_mean(
    groups: Groups, group: int, rows: int, step: int, width: int, mean: int
) -> None:
    """Write a group's weighted mean into its row of (groups, width).

    That may take the place of what is summed up, as in `sum_states`.
    """
    begin = group * groups.stride
    for v in range(0, width, 16):
        added = fill(_ZERO)
        for i in range(begin, begin + groups.stride):
            at = step * whole(groups.members, i) + v
            added = fma(fill(number(groups.shares, i)), load(rows, at), added)
        store(mean, group * width + v, added)

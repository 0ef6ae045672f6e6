"""A layer's recurrences over rows, and the decays that they take.

A complex row is its real parts followed by its imaginary parts, (2·size,).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from saccade.model.cpu_kernels.functions import (
    complex_exp,
    complex_expm1,
    complex_fma,
    complex_multiply,
    load_rates,
)
from saccade.model.cpu_kernels.machine import LINE
from saccade.model.cpu_kernels.memory import copy, load_f32, zero
from saccade.model.cpu_kernels.vectors import (
    WIDTH,
    Lanes,
    broadcast,
    compiled,
    inlined,
    load,
    store,
)

_MORE: Final = WIDTH if WIDTH < LINE else 0
"""A recurrence waits for each sum: where a vector is short, two run side by side."""


@compiled
def decays(ms: int, rows: int, rates: tuple[int, int], size: int, result: int) -> None:
    """Write the decay of states over each duration, e^(r·ms), (rows, 2·size).

    Args:
        ms: Address of the durations, (rows,).
        rows: Number of durations.
        rates: Addresses of both parts of ΛΔ, each (size,).
        size: States.
        result: Address.
    """
    for v in range(0, size, WIDTH):
        doublings, turns = load_rates(rates, v)
        for row in range(rows):
            real, imag = complex_exp(doublings, turns, broadcast(load_f32(ms, row)))
            store(result, 2 * row * size + v, real)
            store(result, 2 * row * size + size + v, imag)


@compiled
def hold_inputs(
    ms: int, rows: int, rates: tuple[int, int], size: int, drive: int
) -> None:
    """Multiply drives, (rows, 2·size), by e^(r·ms) - 1; arguments as for `decays`."""
    for v in range(0, size, WIDTH):
        doublings, turns = load_rates(rates, v)
        for row in range(rows):
            at = 2 * row * size + v
            a = load(drive, at)
            b = load(drive, at + size)
            c, d = complex_expm1(doublings, turns, broadcast(load_f32(ms, row)))
            a, b = complex_multiply(a, b, c, d)
            store(drive, at, a)
            store(drive, at + size, b)


@inlined
def linear_step(
    a: Lanes, b: Lanes, at: int, size: int, decay: int, drive: int
) -> tuple[Lanes, Lanes]:
    """Return x after a row, whose states begin `at`; arguments as `linear_scan`."""
    c, d = load(decay, at), load(decay, size + at)
    a, b = complex_fma(a, b, c, d, load(drive, at), load(drive, size + at))
    store(drive, at, a)
    store(drive, size + at, b)
    return a, b


@compiled
def linear_scan(state: int, size: int, rows: int, decay: int, drive: int) -> None:
    """Run x = decay·x + drive row after row.

    Args:
        state: x before the first row, (2·size,); becomes x after the last.
        size: States.
        rows: Number of rows.
        decay: (rows, 2·size).
        drive: (rows, 2·size); becomes every x.
    """
    for v in range(0, size, WIDTH + _MORE):
        a, b = load(state, v), load(state, size + v)
        e, f = load(state, v + _MORE), load(state, size + v + _MORE)
        for at in range(v, v + 2 * size * rows, 2 * size):
            a, b = linear_step(a, b, at, size, decay, drive)
            if _MORE:
                e, f = linear_step(e, f, at + _MORE, size, decay, drive)
        store(state, v, a)
        store(state, size + v, b)
        if _MORE:
            store(state, v + _MORE, e)
            store(state, size + v + _MORE, f)


class GroupRows(NamedTuple):
    """What the recurrence from group to group takes; all are int64.

    Attributes:
        decay: The decay over a group's duration, (rows, 2·size).
        total: All tokens' contribution at the group's end, (rows, 2·size).
        first_decay: The decay over a group's first gap, (rows, 2·size).
        first: The first token's contribution, (rows, 2·size); becomes the state after
            the first token.
    """

    decay: int
    total: int
    first_decay: int
    first: int


@inlined
def group_step(
    a: Lanes, b: Lanes, at: int, size: int, rows: GroupRows
) -> tuple[Lanes, Lanes]:
    """Return the state after a group, whose states begin `at`."""
    first, total = rows.first, rows.total
    c, d = load(rows.first_decay, at), load(rows.first_decay, size + at)
    e, f = complex_fma(a, b, c, d, load(first, at), load(first, size + at))
    store(first, at, e)
    store(first, size + at, f)
    c, d = load(rows.decay, at), load(rows.decay, size + at)
    return complex_fma(a, b, c, d, load(total, at), load(total, size + at))


@compiled
def group_scan(state: int, size: int, count: int, rows: GroupRows) -> None:
    """Run from stride group to stride group.

    Args:
        state: The state before the first group, (2·size,); becomes that after the last.
        size: States.
        count: Number of groups.
        rows: Of these groups.
    """
    for v in range(0, size, WIDTH + _MORE):
        a, b = load(state, v), load(state, size + v)
        e, f = load(state, v + _MORE), load(state, size + v + _MORE)
        for at in range(v, v + 2 * size * count, 2 * size):
            a, b = group_step(a, b, at, size, rows)
            if _MORE:
                e, f = group_step(e, f, at + _MORE, size, rows)
        store(state, v, a)
        store(state, size + v, b)
        if _MORE:
            store(state, v + _MORE, e)
            store(state, size + v + _MORE, f)


@compiled
def read_state(carry: int, real_size: int, size: int, state: int) -> None:
    """Copy a session's states, (2·real_size,), to a complex row, zeros behind each."""
    zero(state, 8 * size)
    copy(state, carry, 4 * real_size)
    copy(state + 4 * size, carry + 4 * real_size, 4 * real_size)


@compiled
def write_state(state: int, real_size: int, size: int, carry: int) -> None:
    """Copy a complex row to a session's states, (2·real_size,)."""
    copy(carry, state, 4 * real_size)
    copy(carry + 4 * real_size, state + 4 * size, 4 * real_size)

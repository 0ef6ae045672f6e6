"""A layer's recurrences over rows, and the decays that they take.

A complex row is its real parts followed by its imaginary parts, (2·size,).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from saccade.model.cpu_kernels.functions import (
    complex_exp,
    complex_expm1,
    complex_fma,
    complex_multiply,
    load_rates,
)
from saccade.model.cpu_kernels.memory import load_f32, store_f32
from saccade.model.cpu_kernels.vectors import WIDTH, broadcast, compiled, load, store

_ZERO: Final = np.float32(0.0)


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
    for v in range(0, size, WIDTH):
        a = load(state, v)
        b = load(state, size + v)
        for at in range(v, v + 2 * size * rows, 2 * size):
            c = load(decay, at)
            d = load(decay, size + at)
            a, b = complex_fma(a, b, c, d, load(drive, at), load(drive, size + at))
            store(drive, at, a)
            store(drive, size + at, b)
        store(state, v, a)
        store(state, size + v, b)


@compiled
def group_scan(
    state: int,
    size: int,
    rows: int,
    decay: int,
    total: int,
    first_decay: int,
    first: int,
) -> None:
    """Run from stride group to stride group.

    Args:
        state: The state before the first group, (2·size,); becomes that after the last.
        size: States.
        rows: Number of groups.
        decay: The decay over a group's duration, (rows, 2·size).
        total: All tokens' contribution at the group's end, (rows, 2·size).
        first_decay: The decay over a group's first gap, (rows, 2·size).
        first: The first token's contribution, (rows, 2·size); becomes the state after
            the first token.
    """
    for v in range(0, size, WIDTH):
        a = load(state, v)
        b = load(state, size + v)
        for at in range(v, v + 2 * size * rows, 2 * size):
            c = load(first_decay, at)
            d = load(first_decay, size + at)
            e, f = load(first, at), load(first, size + at)
            real, imag = complex_fma(a, b, c, d, e, f)
            store(first, at, real)
            store(first, size + at, imag)
            c = load(decay, at)
            d = load(decay, size + at)
            a, b = complex_fma(a, b, c, d, load(total, at), load(total, size + at))
        store(state, v, a)
        store(state, size + v, b)


@compiled
def split(source: int, real_size: int, size: int, state: int) -> None:
    """Copy complex64 numbers, (real_size,), into a complex row, zeros behind."""
    for p in range(real_size):
        store_f32(state, p, load_f32(source, 2 * p))
        store_f32(state, size + p, load_f32(source, 2 * p + 1))
    for p in range(real_size, size):
        store_f32(state, p, _ZERO)
        store_f32(state, size + p, _ZERO)


@compiled
def join(state: int, real_size: int, size: int, target: int) -> None:
    """Copy a complex row to complex64 numbers, (real_size,)."""
    for p in range(real_size):
        store_f32(target, 2 * p, load_f32(state, p))
        store_f32(target, 2 * p + 1, load_f32(state, size + p))

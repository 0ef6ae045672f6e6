"""The recurrences of a layer from row to row; states lie as in `sums`."""

from __future__ import annotations

from typing import Final

import numpy as np

from saccade.model.cpu_kernels.functions import (
    decay,
    hold,
    rates_at,
    times,
    times_plus,
)
from saccade.model.cpu_kernels.memory import number, put
from saccade.model.cpu_kernels.vectors import compiled, fill, load, store

_ZERO: Final = np.float32(0.0)


@compiled
def decays(ms: int, rows: int, rates: tuple[int, int], size: int, result: int) -> None:
    """Write what is left of states after some times, (rows, 2·size).

    Args:
        ms: Address of the times, (rows,).
        rows: How many.
        rates: Addresses of both planes of ΛΔ, (size,).
        size: States.
        result: Address.
    """
    for v in range(0, size, 16):
        doublings, turns = rates_at(rates, v)
        for row in range(rows):
            real, imag = decay(doublings, turns, fill(number(ms, row)))
            store(result, 2 * row * size + v, real)
            store(result, 2 * row * size + size + v, imag)


@compiled
def hold_inputs(
    ms: int, rows: int, rates: tuple[int, int], size: int, drive: int
) -> None:
    """Multiply what rows drive, (rows, 2·size), by e^(r·ms) - 1; else as `decays`."""
    for v in range(0, size, 16):
        doublings, turns = rates_at(rates, v)
        for row in range(rows):
            at = 2 * row * size + v
            a = load(drive, at)
            b = load(drive, at + size)
            c, d = hold(doublings, turns, fill(number(ms, row)))
            a, b = times(a, b, c, d)
            store(drive, at, a)
            store(drive, at + size, b)


@compiled
def run(state: int, size: int, rows: int, decay: int, drive: int) -> None:
    """Run x = decay·x + drive over some rows.

    Args:
        state: x, (2·size,); is moved.
        size: States.
        rows: How many.
        decay: (rows, 2·size).
        drive: Likewise; becomes every x.
    """
    for v in range(0, size, 16):
        a = load(state, v)
        b = load(state, size + v)
        for at in range(v, v + 2 * size * rows, 2 * size):
            c = load(decay, at)
            d = load(decay, size + at)
            a, b = times_plus(a, b, c, d, load(drive, at), load(drive, size + at))
            store(drive, at, a)
            store(drive, size + at, b)
        store(state, v, a)
        store(state, size + v, b)


@compiled
def run_groups(
    state: int, size: int, rows: int, decay: int, total: int, reach: int, first: int
) -> None:
    """Run from stride group to stride group.

    Args:
        state: Before the first, (2·size,); is moved.
        size: States.
        rows: Groups.
        decay: What a group's duration leaves, (rows, 2·size).
        total: What a group adds, likewise.
        reach: What its first gap leaves, likewise.
        first: What its first token adds, likewise; becomes the state after that.
    """
    for v in range(0, size, 16):
        a = load(state, v)
        b = load(state, size + v)
        for at in range(v, v + 2 * size * rows, 2 * size):
            c = load(reach, at)
            d = load(reach, size + at)
            real, imag = times_plus(a, b, c, d, load(first, at), load(first, size + at))
            store(first, at, real)
            store(first, size + at, imag)
            c = load(decay, at)
            d = load(decay, size + at)
            a, b = times_plus(a, b, c, d, load(total, at), load(total, size + at))
        store(state, v, a)
        store(state, size + v, b)


@compiled
def split(source: int, real_size: int, size: int, state: int) -> None:
    """Read complex numbers, (real_size,), as two planes, (2·size,)."""
    for p in range(real_size):
        put(state, p, number(source, 2 * p))
        put(state, size + p, number(source, 2 * p + 1))
    for p in range(real_size, size):
        put(state, p, _ZERO)
        put(state, size + p, _ZERO)


@compiled
def join(state: int, real_size: int, size: int, target: int) -> None:
    """Write two planes, (2·size,), as complex numbers, (real_size,)."""
    for p in range(real_size):
        put(target, 2 * p, number(state, p))
        put(target, 2 * p + 1, number(state, size + p))

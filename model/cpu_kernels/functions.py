"""Elementary functions of sixteen numbers at a time, by the polynomials of `planes`."""

from __future__ import annotations

from typing import Final

import numpy as np

from saccade.model.cpu_kernels.vectors import (
    Lanes,
    fill,
    fma,
    fnma,
    inlined,
    largest,
    least,
    load,
    nearest,
    power_of_two,
)
from saccade.model.split_complex import (
    COSINE,
    GROWTH,
    POWER,
    SINE,
)

_S0, _S1, _S2, _S3, _S4, _S5 = (np.float32(c) for c in SINE)
_C0, _C1, _C2, _C3, _C4, _C5 = (np.float32(c) for c in COSINE)
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = (np.float32(c) for c in POWER)
_G0, _G1, _G2, _G3, _G4, _G5, _G6 = (np.float32(c) for c in GROWTH)
_PER_DOUBLING: Final = np.float32(1.0 / np.log(2.0))
_PER_TURN: Final = np.float32(1.0 / (2.0 * np.pi))
_LEAST: Final = np.float32(-126.0)
_MOST: Final = np.float32(127.0)
_ONE: Final = np.float32(1.0)
# GELU by tanh is y·σ(2z), z = √(2/π)·(y + 0.044715·y³).
_GELU_1: Final = np.float32(2.0 * np.sqrt(2.0 / np.pi))
_GELU_3: Final = np.float32(2.0 * np.sqrt(2.0 / np.pi) * 0.044715)


@inlined
def power(doublings: Lanes) -> Lanes:
    """Return 2^doublings; below the least normal number, about that number."""
    doublings = least(largest(doublings, fill(_LEAST)), fill(_MOST))
    whole = nearest(doublings)
    part = doublings - whole
    size = fma(fill(_P6), part, fill(_P5))
    size = fma(size, part, fill(_P4))
    size = fma(size, part, fill(_P3))
    size = fma(size, part, fill(_P2))
    size = fma(size, part, fill(_P1))
    size = fma(size, part, fill(_P0))
    return size * power_of_two(whole)


@inlined
def growth(doublings: Lanes) -> Lanes:
    """Return 2^doublings - 1, exact where that is small."""
    doublings = least(largest(doublings, fill(_LEAST)), fill(_MOST))
    whole = nearest(doublings)
    part = doublings - whole
    size = fma(fill(_G6), part, fill(_G5))
    size = fma(size, part, fill(_G4))
    size = fma(size, part, fill(_G3))
    size = fma(size, part, fill(_G2))
    size = fma(size, part, fill(_G1))
    size = fma(size, part, fill(_G0))
    scale = power_of_two(whole)
    return fma(size * part, scale, scale - fill(_ONE))


@inlined
def half_turn(turns: Lanes) -> tuple[Lanes, Lanes]:
    """Return sine and cosine of half a phase that is given in turns."""
    turns = turns - nearest(turns)
    square = turns * turns
    sine = fma(fill(_S5), square, fill(_S4))
    cosine = fma(fill(_C5), square, fill(_C4))
    sine = fma(sine, square, fill(_S3))
    cosine = fma(cosine, square, fill(_C3))
    sine = fma(sine, square, fill(_S2))
    cosine = fma(cosine, square, fill(_C2))
    sine = fma(sine, square, fill(_S1))
    cosine = fma(cosine, square, fill(_C1))
    sine = turns * fma(sine, square, fill(_S0))
    return sine, fma(cosine, square, fill(_C0))


@inlined
def rates_at(rates: tuple[int, int], v: int) -> tuple[Lanes, Lanes]:
    """Read ΛΔ from the addresses of its planes: in doublings and in turns a ms."""
    doublings = load(rates[0], v) * fill(_PER_DOUBLING)
    return doublings, load(rates[1], v) * fill(_PER_TURN)


@inlined
def decay(doublings: Lanes, turns: Lanes, ms: Lanes) -> tuple[Lanes, Lanes]:
    """Return both planes of e^(r·ms), r given in doublings and in turns a ms."""
    size = power(doublings * ms)
    sine, cosine = half_turn(turns * ms)
    twice = size * (sine + sine)
    return size - twice * sine, twice * cosine


@inlined
def hold(doublings: Lanes, turns: Lanes, ms: Lanes) -> tuple[Lanes, Lanes]:
    """Return both planes of e^(r·ms) - 1, exact where that is small."""
    grown = growth(doublings * ms)
    sine, cosine = half_turn(turns * ms)
    twice = (grown + fill(_ONE)) * (sine + sine)
    return grown - twice * sine, twice * cosine


@inlined
def sigmoid(x: Lanes) -> Lanes:
    """Return 1/(1 + e^-x)."""
    return fill(_ONE) / (fill(_ONE) + power(x * fill(-_PER_DOUBLING)))


@inlined
def gelu(y: Lanes) -> Lanes:
    """Return GELU, by the hyperbolic tangent as Flax's own."""
    return y * sigmoid(y * fma(y * y, fill(_GELU_3), fill(_GELU_1)))


@inlined
def times(a: Lanes, b: Lanes, c: Lanes, d: Lanes) -> tuple[Lanes, Lanes]:
    """Return both planes of (a + bi)·(c + di)."""
    return fnma(b, d, a * c), fma(b, c, a * d)


@inlined
def times_plus(
    a: Lanes, b: Lanes, c: Lanes, d: Lanes, e: Lanes, f: Lanes
) -> tuple[Lanes, Lanes]:
    """Return both planes of (a + bi)·(c + di) + (e + fi)."""
    return fnma(b, d, fma(a, c, e)), fma(b, c, fma(a, d, f))

"""Elementary functions of vectors, by the polynomials of `split_complex`.

A complex vector is two vectors, its real and imaginary parts.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from saccade.model.cpu_kernels.vectors import (
    Lanes,
    broadcast,
    exp2_integer,
    fma,
    fnma,
    inlined,
    largest,
    load,
    maximum,
    minimum,
    nearest,
)
from saccade.model.split_complex import (
    COSINE,
    EXP2,
    EXP2M1,
    SINE,
    fit,
)

NEAR_DOUBLINGS: Final = 1 / 8
NEAR_TURNS: Final = 1 / 4
"""Up to here `complex_exp_near` may be taken."""

_S0, _S1, _S2, _S3, _S4, _S5 = (np.float32(c) for c in SINE)
_C0, _C1, _C2, _C3, _C4, _C5 = (np.float32(c) for c in COSINE)
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = (np.float32(c) for c in EXP2)
_G0, _G1, _G2, _G3, _G4, _G5, _G6 = (np.float32(c) for c in EXP2M1)
# The same for doublings and turns that are near to 0.
_s0, _s1, _s2, _s3, _s4 = (
    np.float32(c)
    for c in fit(lambda x: np.pi * np.sinc(np.sqrt(x)), 4, (0.0, NEAR_TURNS**2))
)
_c0, _c1, _c2, _c3, _c4 = (
    np.float32(c)
    for c in fit(lambda x: np.cos(np.pi * np.sqrt(x)), 4, (0.0, NEAR_TURNS**2))
)
_, _p1, _p2, _p3, _p4 = (
    np.float32(c) for c in fit(np.exp2, 4, (-NEAR_DOUBLINGS, NEAR_DOUBLINGS))
)
_PER_DOUBLING: Final = np.float32(1.0 / np.log(2.0))
_PER_TURN: Final = np.float32(1.0 / (2.0 * np.pi))
_LEAST: Final = np.float32(-126.0)
_MOST: Final = np.float32(126.0)  # so that a sigmoid's inverse is a normal number
_ONE: Final = np.float32(1.0)
# GELU by tanh is y·σ(2z), z = √(2/π)·(y + 0.044715·y³).
_GELU_1: Final = np.float32(2.0 * np.sqrt(2.0 / np.pi))
_GELU_3: Final = np.float32(2.0 * np.sqrt(2.0 / np.pi) * 0.044715)


@inlined
def exp2(doublings: Lanes) -> Lanes:
    """Return 2^doublings, at least the smallest normal float32."""
    doublings = minimum(maximum(doublings, broadcast(_LEAST)), broadcast(_MOST))
    whole = nearest(doublings)
    part = doublings - whole
    size = fma(broadcast(_P6), part, broadcast(_P5))
    size = fma(size, part, broadcast(_P4))
    size = fma(size, part, broadcast(_P3))
    size = fma(size, part, broadcast(_P2))
    size = fma(size, part, broadcast(_P1))
    size = fma(size, part, broadcast(_P0))
    return size * exp2_integer(whole)


@inlined
def exp2m1(doublings: Lanes) -> Lanes:
    """Return 2^doublings - 1, exact where that is small."""
    doublings = minimum(maximum(doublings, broadcast(_LEAST)), broadcast(_MOST))
    whole = nearest(doublings)
    part = doublings - whole
    size = fma(broadcast(_G6), part, broadcast(_G5))
    size = fma(size, part, broadcast(_G4))
    size = fma(size, part, broadcast(_G3))
    size = fma(size, part, broadcast(_G2))
    size = fma(size, part, broadcast(_G1))
    size = fma(size, part, broadcast(_G0))
    scale = exp2_integer(whole)
    return fma(size * part, scale, scale - broadcast(_ONE))


@inlined
def sincos_half_phase(turns: Lanes) -> tuple[Lanes, Lanes]:
    """Return sine and cosine of half a phase; the phase is in turns."""
    turns = turns - nearest(turns)
    square = turns * turns
    sine = fma(broadcast(_S5), square, broadcast(_S4))
    cosine = fma(broadcast(_C5), square, broadcast(_C4))
    sine = fma(sine, square, broadcast(_S3))
    cosine = fma(cosine, square, broadcast(_C3))
    sine = fma(sine, square, broadcast(_S2))
    cosine = fma(cosine, square, broadcast(_C2))
    sine = fma(sine, square, broadcast(_S1))
    cosine = fma(cosine, square, broadcast(_C1))
    sine = turns * fma(sine, square, broadcast(_S0))
    return sine, fma(cosine, square, broadcast(_C0))


@inlined
def load_rates(rates: tuple[int, int], v: int) -> tuple[Lanes, Lanes]:
    """Read ΛΔ from the addresses of its parts, as doublings/ms and turns/ms."""
    doublings = load(rates[0], v) * broadcast(_PER_DOUBLING)
    return doublings, load(rates[1], v) * broadcast(_PER_TURN)


@inlined
def complex_exp(doublings: Lanes, turns: Lanes, ms: Lanes) -> tuple[Lanes, Lanes]:
    """Return e^(r·ms), where r is given as doublings/ms and turns/ms."""
    size = exp2(doublings * ms)
    sine, cosine = sincos_half_phase(turns * ms)
    twice = size * (sine + sine)
    return size - twice * sine, twice * cosine


@inlined
def near(rates: tuple[Lanes, Lanes], ms: float) -> bool:
    """Return whether `complex_exp_near` is accurate up to a duration, in all lanes."""
    return largest(rates[0]) * ms < np.float32(NEAR_DOUBLINGS) and largest(
        rates[1]
    ) * ms < np.float32(NEAR_TURNS)


@inlined
def complex_exp_near(doublings: Lanes, turns: Lanes, ms: Lanes) -> tuple[Lanes, Lanes]:
    """Return what `complex_exp` does, by half the operations, where `near` holds.

    Within a stride group the phases of most states are that small.
    """
    part, turns = doublings * ms, turns * ms
    square = turns * turns
    size = fma(broadcast(_p4), part, broadcast(_p3))
    sine = fma(broadcast(_s4), square, broadcast(_s3))
    cosine = fma(broadcast(_c4), square, broadcast(_c3))
    size = fma(size, part, broadcast(_p2))
    sine = fma(sine, square, broadcast(_s2))
    cosine = fma(cosine, square, broadcast(_c2))
    size = fma(size, part, broadcast(_p1))
    sine = fma(sine, square, broadcast(_s1))
    cosine = fma(cosine, square, broadcast(_c1))
    size = fma(size, part, broadcast(_ONE))
    sine = turns * fma(sine, square, broadcast(_s0))
    cosine = fma(cosine, square, broadcast(_c0))
    twice = size * (sine + sine)
    return size - twice * sine, twice * cosine


@inlined
def complex_expm1(doublings: Lanes, turns: Lanes, ms: Lanes) -> tuple[Lanes, Lanes]:
    """Return e^(r·ms) - 1, exact where that is small; arguments as `complex_exp`."""
    grown = exp2m1(doublings * ms)
    sine, cosine = sincos_half_phase(turns * ms)
    twice = (grown + broadcast(_ONE)) * (sine + sine)
    return grown - twice * sine, twice * cosine


@inlined
def sigmoid(x: Lanes) -> Lanes:
    """Return 1/(1 + e^-x)."""
    return broadcast(_ONE) / (broadcast(_ONE) + exp2(x * broadcast(-_PER_DOUBLING)))


@inlined
def gelu(y: Lanes) -> Lanes:
    """Return GELU in the approximation by tanh, which is Flax's default."""
    return y * sigmoid(y * fma(y * y, broadcast(_GELU_3), broadcast(_GELU_1)))


@inlined
def complex_multiply(a: Lanes, b: Lanes, c: Lanes, d: Lanes) -> tuple[Lanes, Lanes]:
    """Return (a + bi)·(c + di)."""
    return fnma(b, d, a * c), fma(b, c, a * d)


@inlined
def complex_fma(
    a: Lanes, b: Lanes, c: Lanes, d: Lanes, e: Lanes, f: Lanes
) -> tuple[Lanes, Lanes]:
    """Return (a + bi)·(c + di) + (e + fi)."""
    return fnma(b, d, fma(a, c, e)), fma(b, c, fma(a, d, f))

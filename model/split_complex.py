"""SplitComplex numbers as two real arrays, which compilers turn into vector code.

XLA's complex exponential on a CPU goes number by number; here its phase is reduced to
one turn and short polynomials do the rest, several times as fast. They are cheap
operations to a compiler, which fuses them with what reads them instead of storing them.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float
from numpy.polynomial import Chebyshev, Polynomial


class SplitComplex(NamedTuple):
    """SplitComplex numbers, plane by plane.

    Attributes:
        real: (..., p).
        imag: Likewise.
    """

    real: Float[Array, "*b p"]
    imag: Float[Array, "*b p"]


def planes(z: Complex[Array, "*b p"]) -> SplitComplex:
    """Split complex numbers into planes."""
    return SplitComplex(z.real, z.imag)


def join(z: SplitComplex) -> Complex[Array, "*b p"]:
    """Return planes as complex numbers."""
    return jax.lax.complex(z.real, z.imag)


def side_by_side(z: SplitComplex) -> Float[Array, "*b q"]:
    """Return both planes in one row, (..., 2p), as matrix products take them."""
    return jnp.concatenate(z, axis=-1)


def halves(row: Float[Array, "*b q"]) -> SplitComplex:
    """Split a row (..., 2p) into its two planes; the inverse of `side_by_side`."""
    half = row.shape[-1] // 2
    return SplitComplex(row[..., :half], row[..., half:])


def times(a: SplitComplex, b: SplitComplex) -> SplitComplex:
    """Return a·b, broadcast."""
    return SplitComplex(
        a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real
    )


def plus(a: SplitComplex, b: SplitComplex) -> SplitComplex:
    """Return a + b, broadcast."""
    return SplitComplex(a.real + b.real, a.imag + b.imag)


def conjugate(z: SplitComplex) -> SplitComplex:
    """Return the complex conjugate."""
    return SplitComplex(z.real, -z.imag)


def exp(rates: SplitComplex, dt_ms: Float[Array, "..."]) -> SplitComplex:
    """Return what a state becomes over a gap, relative to itself: e^(r·dt).

    Args:
        rates: r, (p,), 1/ms.
        dt_ms: Gaps, broadcast against (p,), ms.
    """
    sine, cosine = _half_turn(rates, dt_ms)
    size = _real_exp(rates.real, dt_ms)
    return SplitComplex(size - size * (2.0 * sine * sine), size * (2.0 * sine * cosine))


def expm1(rates: SplitComplex, dt_ms: Float[Array, "..."]) -> SplitComplex:
    """Return e^(r·dt) - 1, exact where r·dt is small; arguments as for `exp`."""
    sine, cosine = _half_turn(rates, dt_ms)
    grown = jnp.expm1(rates.real * dt_ms)
    size = grown + 1.0
    return SplitComplex(
        grown - size * (2.0 * sine * sine), size * (2.0 * sine * cosine)
    )


def _real_exp(rate: Array, dt_ms: Float[Array, "..."]) -> Array:
    """Return e^(rate·dt); below the least normal number, about that number."""
    doublings = (rate * (1.0 / np.log(2.0))) * dt_ms
    if doublings.dtype == jnp.float64:
        return jnp.exp(rate * dt_ms)
    doublings = jnp.clip(doublings, -126.0, 127.0)
    whole = jnp.round(doublings)
    exponent = (whole.astype(jnp.int32) + 127) << 23
    power = jax.lax.bitcast_convert_type(exponent, jnp.float32)
    return _horner(POWER, doublings - whole) * power


def _half_turn(rates: SplitComplex, dt_ms: Float[Array, "..."]) -> tuple[Array, Array]:
    """Return sine and cosine of half the phase."""
    turns = (rates.imag * (1.0 / (2.0 * np.pi))) * dt_ms
    turns = turns - jnp.round(turns)
    if turns.dtype == jnp.float64:
        return jnp.sin(np.pi * turns), jnp.cos(np.pi * turns)
    square = turns * turns
    return turns * _horner(SINE, square), _horner(COSINE, square)


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    total: Any = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return jnp.asarray(total)


def _fit(function: Any, degree: int, domain: tuple[float, float]) -> tuple[float, ...]:
    """Return a polynomial near the best there is, constant term first."""
    fitted = Chebyshev.interpolate(function, degree, domain=domain)
    return tuple(fitted.convert(kind=Polynomial).coef.tolist())


def _sinhc(x: Any) -> Any:
    """Return sinh(x)/x."""
    return np.sinc(1j * x / np.pi).real


# Sine and cosine of half a turn's phase, by the square of turns in [-1/2, 1/2].
SINE: Final = _fit(lambda square: np.pi * np.sinc(np.sqrt(square)), 5, (0.0, 0.25))
COSINE: Final = _fit(lambda square: np.cos(np.pi * np.sqrt(square)), 5, (0.0, 0.25))
# A part of a doubling; what is no time at all must leave a state bit for bit.
POWER: Final = (1.0, *_fit(np.exp2, 6, (-0.5, 0.5))[1:])
# What such a part adds to 1, over the part: so that a little is exact.
GROWTH: Final = _fit(
    lambda part: np.log(2.0) * np.exp2(part / 2.0) * _sinhc(part * np.log(2.0) / 2.0),
    6,
    (-0.5, 0.5),
)

"""Complex arithmetic on two real arrays, with an exponential that vectorizes.

XLA computes a complex exponential on a CPU number by number. Here the phase is reduced
to one turn and short polynomials do the rest, several times as fast; XLA fuses them
with the operation that reads the result.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from saccade.model.array_types import Array, Complex, Float


class SplitComplex(NamedTuple):
    """Complex numbers as a real and an imaginary array, each (..., p)."""

    real: Float[Array, "*b p"]
    imag: Float[Array, "*b p"]


def split(z: Complex[Array, "*b p"]) -> SplitComplex:
    """Return the real and imaginary parts of a complex array."""
    return SplitComplex(z.real, z.imag)


def join(z: SplitComplex) -> Complex[Array, "*b p"]:
    """Return a complex array; the inverse of `split`."""
    return jax.lax.complex(z.real, z.imag)


def to_row(z: SplitComplex) -> Float[Array, "*b q"]:
    """Concatenate real and imaginary parts, (..., 2p), for a matrix product."""
    return jnp.concatenate(z, axis=-1)


def from_row(row: Float[Array, "*b q"]) -> SplitComplex:
    """Cut rows (..., 2p) into real and imaginary parts; the inverse of `to_row`."""
    half = row.shape[-1] // 2
    return SplitComplex(row[..., :half], row[..., half:])


def multiply(a: SplitComplex, b: SplitComplex) -> SplitComplex:
    """Return a·b, broadcast."""
    return SplitComplex(
        a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real
    )


def add(a: SplitComplex, b: SplitComplex) -> SplitComplex:
    """Return a + b, broadcast."""
    return SplitComplex(a.real + b.real, a.imag + b.imag)


def conjugate(z: SplitComplex) -> SplitComplex:
    """Return the complex conjugate."""
    return SplitComplex(z.real, -z.imag)


def exp(rates: SplitComplex, dt_ms: Float[Array, "..."]) -> SplitComplex:
    """Return e^(r·dt), the factor by which a state decays over a gap.

    Args:
        rates: r, (p,), 1/ms.
        dt_ms: Gaps, broadcast against (p,), ms.
    """
    sine, cosine = _sincos_half_phase(rates, dt_ms)
    size = _real_exp(rates.real, dt_ms)
    return SplitComplex(size - size * (2.0 * sine * sine), size * (2.0 * sine * cosine))


def expm1(rates: SplitComplex, dt_ms: Float[Array, "..."]) -> SplitComplex:
    """Return e^(r·dt) - 1, exact where r·dt is small; arguments as for `exp`."""
    sine, cosine = _sincos_half_phase(rates, dt_ms)
    grown = jnp.expm1(rates.real * dt_ms)
    size = grown + 1.0
    return SplitComplex(
        grown - size * (2.0 * sine * sine), size * (2.0 * sine * cosine)
    )


def _real_exp(rate: Array, dt_ms: Float[Array, "..."]) -> Array:
    """Return e^(rate·dt), at least the smallest normal float32."""
    doublings = (rate * (1.0 / np.log(2.0))) * dt_ms
    if doublings.dtype == jnp.float64:
        return jnp.exp(rate * dt_ms)
    doublings = jnp.clip(doublings, -126.0, 127.0)
    whole = jnp.round(doublings)
    exponent = (whole.astype(jnp.int32) + 127) << 23
    power = jax.lax.bitcast_convert_type(exponent, jnp.float32)
    return _horner(EXP2, doublings - whole) * power


def _sincos_half_phase(
    rates: SplitComplex, dt_ms: Float[Array, "..."]
) -> tuple[Array, Array]:
    """Return sine and cosine of half the phase of e^(r·dt)."""
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


def fit(function: Any, degree: int, domain: tuple[float, float]) -> tuple[float, ...]:
    """Return a near-minimax polynomial's coefficients, constant term first."""
    fitted = Chebyshev.interpolate(function, degree, domain=domain)
    return tuple(fitted.convert(kind=Polynomial).coef.tolist())


def _sinhc(x: Any) -> Any:
    """Return sinh(x)/x."""
    return np.sinc(1j * x / np.pi).real


# sin(π·turns)/turns and cos(π·turns), in turns², for turns in [-1/2, 1/2].
SINE: Final = fit(lambda square: np.pi * np.sinc(np.sqrt(square)), 5, (0.0, 0.25))
COSINE: Final = fit(lambda square: np.cos(np.pi * np.sqrt(square)), 5, (0.0, 0.25))
# 2^x for x in [-1/2, 1/2]. The constant term is exactly 1: a gap of 0 ms leaves a state
# bit for bit.
EXP2: Final = (1.0, *fit(np.exp2, 6, (-0.5, 0.5))[1:])
# (2^x - 1)/x for x in [-1/2, 1/2], so that 2^x - 1 is exact where x is small.
EXP2M1: Final = fit(
    lambda x: np.log(2.0) * np.exp2(x / 2.0) * _sinhc(x * np.log(2.0) / 2.0),
    6,
    (-0.5, 0.5),
)

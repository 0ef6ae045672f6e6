"""A layer's weights as its arithmetic wants them, and its norms."""

from __future__ import annotations

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from saccade.model.planes import Planes

NORM_EPSILON: Final = 1e-6


class Affine(NamedTuple):
    """x·kernel + bias, by matrix (h, o) or elementwise (h,)."""

    kernel: Float[Array, "*h o"]
    bias: Float[Array, " o"]


class LayerWeights(NamedTuple):
    """A layer's parameters as its arithmetic wants them.

    Attributes:
        rates: ΛΔ, (p,), 1/ms.
        B: Input to both planes of the drive, the shared gain included, (i, 2p).
        C: Both planes of the state to the output, Re(C·x), (2p, o); doubled for
            conjugate pairs.
        D: Feedthrough, (i,) or (i, o).
        gate: The GLU's.
        widen: The skip's, where a layer widens.
        norm: The norm's scale and shift.
    """

    rates: Planes
    B: Float[Array, "i q"]
    C: Float[Array, "q o"]
    D: Float[Array, "*i o"]
    gate: Affine
    widen: Affine | None
    norm: Affine


def layer_norm(norm: Affine, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Normalise each input by its own mean and variance."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = jnp.maximum((x * x).mean(axis=-1, keepdims=True) - mean * mean, 0.0)
    scale = jax.lax.rsqrt(variance + NORM_EPSILON) * norm.kernel
    return (x - mean) * scale + norm.bias


def affine_norm(norm: Affine, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Normalise by what training left: a batch norm is a scale and a shift."""
    return x * norm.kernel + norm.bias

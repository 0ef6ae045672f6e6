"""Numeric precision of matrix products, in training and in serving.

An accelerator multiplies float32 factors in TF32 unless a product says otherwise: with
10 of 23 bits, which a score shows. So serving's products name their precision, each for
itself: an option of JAX's would not reach the threads that compile. Less than float32
is a choice of the operator's (`SERVING_PRECISIONS`), and the canary measures its error.

In training, bfloat16 has float32's range and 8 of its 24 bits, so no loss needs
scaling, but a small term added to a large sum is lost. So bfloat16 holds factors alone:
those of matrix products, whose terms are summed in float32, and a layer's outputs.
Weights and their gradients, states, decays, means and norms stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from saccade.model.array_types import Array, Float

PrecisionName = Literal["float32", "bfloat16"]
Axes: TypeAlias = tuple[int, ...]

SPLIT_ROWS: Final = 4096
"""Rows of a product from which float32's factors are split on CUDA."""


class Precision(NamedTuple):
    """A layer's matrix product and the type of its output.

    Attributes:
        multiply: Features (..., i) and a matrix (i, o) -> their product (..., o).
        cast_output: A layer's output -> the same in the type that is kept of it.
    """

    multiply: Callable[[Array, Array], Array]
    cast_output: Callable[[Array], Array]


def multiply_exactly(
    x: Float[Array, "*b i"], matrix: Float[Array, "i o"]
) -> Float[Array, "*b o"]:
    """Multiply at float32's precision, or that of the factors, on every platform.

    A large product on CUDA adds three of TF32, of each factor's upper and lower bits:
    as exact, and faster than float32's own units. A small one is over sooner than the
    kernels that split its factors are launched.
    """
    if math.prod(x.shape[:-1]) < SPLIT_ROWS:
        return _highest(x, matrix)
    return _on_cuda(jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3, x, matrix)


def multiply_in_tf32(
    x: Float[Array, "*b i"], matrix: Float[Array, "i o"]
) -> Float[Array, "*b o"]:
    """Multiply TF32 factors on CUDA; elsewhere as `multiply_exactly`."""
    return _on_cuda(jax.lax.DotAlgorithmPreset.TF32_TF32_F32, x, matrix)


def multiply_in_bfloat16_on_cuda(
    x: Float[Array, "*b i"], matrix: Float[Array, "i o"]
) -> Float[Array, "*b o"]:
    """Multiply bfloat16 factors on CUDA; elsewhere as `multiply_exactly`."""
    return _on_cuda(jax.lax.DotAlgorithmPreset.BF16_BF16_F32, x, matrix)


def _highest(x: Array, matrix: Array) -> Array:
    return jnp.matmul(x, matrix, precision=jax.lax.Precision.HIGHEST)


def _on_cuda(algorithm: jax.lax.DotAlgorithmPreset, x: Array, matrix: Array) -> Array:
    """Multiply float32 factors by an algorithm on CUDA, exactly on other platforms."""

    def by_algorithm(x: Array, matrix: Array) -> Array:
        return jnp.matmul(x, matrix, precision=algorithm)

    if x.dtype != jnp.float32 or matrix.dtype != jnp.float32:
        return _highest(x, matrix)
    product: Array
    product = jax.lax.platform_dependent(x, matrix, cuda=by_algorithm, default=_highest)
    return product


def multiply_in_bfloat16(
    x: Float[Array, "*b i"], matrix: Float[Array, "i o"]
) -> Float[Array, "*b o"]:
    """Multiply bfloat16 factors, in the gradient too; the result is float32.

    The gradient is written out: JAX's own would multiply by a float32 factor, at the
    speed of float32.
    """
    product: Array = _multiply(x.astype(jnp.float32), matrix)
    return product


@jax.custom_vjp
def _multiply(x: Float[Array, "*b i"], matrix: Float[Array, "i o"]) -> Any:
    return _contract(x, (x.ndim - 1,), matrix, (0,))


def _contract(a: Array, of_a: Axes, b: Array, of_b: Axes) -> Array:
    """Multiply bfloat16 factors and sum in float32, over some axes of each."""
    axes = ((of_a, of_b), ((), ()))

    def rounded(a: Array, b: Array) -> Array:
        return jax.lax.dot_general(_rounded(a), _rounded(b), axes)

    def narrow(a: Array, b: Array) -> Array:
        factors = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
        return jax.lax.dot_general(*factors, axes, preferred_element_type=jnp.float32)

    total: Array = jax.lax.platform_dependent(a, b, cpu=rounded, default=narrow)
    return total


def _rounded(x: Array) -> Array:
    """Round float32 numbers to bfloat16's bits: a CPU has no bfloat16 product."""
    # A cast to bfloat16 and back would not do: the compiler may leave out both.
    return jax.lax.reduce_precision(x.astype(jnp.float32), 8, 7)


def _forward(x: Array, matrix: Array) -> tuple[Array, tuple[Array, Array]]:
    kept = x.astype(jnp.bfloat16), matrix.astype(jnp.bfloat16)
    return _multiply(x, matrix), kept


def _backward(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, matrix = kept
    rows = tuple(range(x.ndim - 1))
    by_x = _contract(cotangent, (cotangent.ndim - 1,), matrix, (1,))
    return by_x, _contract(x, rows, cotangent, rows)


_multiply.defvjp(_forward, _backward)


def _unchanged(x: Array) -> Array:
    return x


def _as_bfloat16(x: Array) -> Array:
    return x.astype(jnp.bfloat16)


FLOAT32: Final = Precision(multiply_exactly, _unchanged)
"""Of inference, unless its caller asks for another."""

SERVING_PRECISIONS: Final[Mapping[str, Precision]] = {
    "float32": FLOAT32,
    "tf32": Precision(multiply_in_tf32, _unchanged),
    "bfloat16": Precision(multiply_in_bfloat16_on_cuda, _unchanged),
}
"""The choices of `--matmul-precision`: the least that a device may multiply in."""

PRECISIONS: Final[Mapping[PrecisionName, Precision]] = {
    "float32": Precision(jnp.matmul, _unchanged),  # a GPU's default, which is TF32
    "bfloat16": Precision(multiply_in_bfloat16, _as_bfloat16),
}
"""The choices of `training.precision`."""

"""In which numbers training multiplies: float32, or bfloat16 where that is enough.

bfloat16 has float32's range and 8 of its 24 bits, so nothing need be scaled; what it
cannot do is add a little to a lot. So it only ever holds factors: of matrix products,
whose terms are added up in float32, and what one layer passes on to the next. Weights
and their gradients, states, decays, means and norms stay float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Name = Literal["float32", "bfloat16"]
Axes: TypeAlias = tuple[int, ...]


class Precision(NamedTuple):
    """What a layer does with the numbers it is given.

    Attributes:
        multiply: Features (..., i) by a matrix (i, o).
        pass_on: What becomes of a layer's output before the next one reads it.
    """

    multiply: Callable[[Array, Array], Array]
    pass_on: Callable[[Array], Array]


def multiply_in_bfloat16(
    x: Float[Array, "*b i"], matrix: Float[Array, "i o"]
) -> Float[Array, "*b o"]:
    """Multiply factors of bfloat16, in the gradient too; the result is float32.

    The gradient keeps the factors in bfloat16. It is written out, as the compiler's own
    would multiply by a float32 one and so give up what is gained.
    """
    product: Array = _multiply(x.astype(jnp.float32), matrix)
    return product


@jax.custom_vjp
def _multiply(x: Float[Array, "*b i"], matrix: Float[Array, "i o"]) -> Any:
    return _contract(x, (x.ndim - 1,), matrix, (0,))


def _contract(a: Array, of_a: Axes, b: Array, of_b: Axes) -> Array:
    """Multiply factors of bfloat16 and add up in float32, over some axes of each."""
    axes = ((of_a, of_b), ((), ()))

    def rounded_first(a: Array, b: Array) -> Array:
        return jax.lax.dot_general(_rounded(a), _rounded(b), axes)

    def as_they_are(a: Array, b: Array) -> Array:
        narrow = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
        return jax.lax.dot_general(*narrow, axes, preferred_element_type=jnp.float32)

    total: Array = jax.lax.platform_dependent(
        a, b, cpu=rounded_first, default=as_they_are
    )
    return total


def _rounded(x: Array) -> Array:
    """Round to what bfloat16 holds, for a CPU, which has no such product."""
    # Two casts would not do: the compiler may leave out both.
    return jax.lax.reduce_precision(x.astype(jnp.float32), 8, 7)


def _forward(x: Array, matrix: Array) -> tuple[Array, tuple[Array, Array]]:
    kept = x.astype(jnp.bfloat16), matrix.astype(jnp.bfloat16)
    return _multiply(x, matrix), kept


def _backward(kept: tuple[Array, Array], wanted: Array) -> tuple[Array, Array]:
    x, matrix = kept
    rows = tuple(range(x.ndim - 1))
    by_x = _contract(wanted, (wanted.ndim - 1,), matrix, (1,))
    return by_x, _contract(x, rows, wanted, rows)


_multiply.defvjp(_forward, _backward)


def _as_it_is(x: Array) -> Array:
    return x


def _in_bfloat16(x: Array) -> Array:
    return x.astype(jnp.bfloat16)


FLOAT32: Final = Precision(jnp.matmul, _as_it_is)
"""All as it comes: what inference always does."""

PRECISIONS: Final[Mapping[Name, Precision]] = {
    "float32": FLOAT32,
    "bfloat16": Precision(multiply_in_bfloat16, _in_bfloat16),
}

"""Types of arrays with their shapes: jaxtyping's, or plain ones where it is missing.

A shape in an annotation is for readers, mypy and the tests, which check it at run time.
Inference itself needs JAX, Flax and NumPy alone, as on a borrowed machine with a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jax import Array as Array

if TYPE_CHECKING:
    from jaxtyping import Bool as Bool, Complex as Complex, Float as Float, Int as Int
else:
    try:
        from jaxtyping import Bool, Complex, Float, Int
    except ModuleNotFoundError:

        class _AnyShape:
            """An array type whose shape nothing checks."""

            def __class_getitem__(cls, _: Any) -> Any:
                return Any

        Bool = Complex = Float = Int = _AnyShape

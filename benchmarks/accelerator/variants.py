"""What else could be served: other ways to compile the calls, measured in turn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.accelerator.calls import Calls, batches, error_of
from benchmarks.accelerator.ceilings import Result, in_turn_s, percentiles
from benchmarks.accelerator.expected import Expected
from benchmarks.accelerator.network import CONFIG
from benchmarks.accelerator.sizes import Sizes
from saccade.model.backends import xla
from saccade.model.inference import Weights
from saccade.model.precision import SERVING_PRECISIONS, Precision
from saccade.server.engine.engine import UNTUNED
from saccade.server.engine.model_registry import Servable
from saccade.server.engine.scheduler import Bucket

AS_SERVED: Final = "as served"
ROUNDS: Final = 3


class Variant(NamedTuple):
    """One other way to compile a bucket.

    Attributes:
        options: Of the compiler.
        precision: How its products multiply; None as those that are served.
    """

    options: dict[str, Any]
    precision: Precision | None = None

    def servable(self, served: Servable) -> Servable:
        """Return the network that this variant serves instead.

        Raises:
            ValueError: The variant names a precision, and native code serves.
        """
        if self.precision is None:
            return served
        if not isinstance(served.weights, Weights):
            raise ValueError("native code multiplies in float32 alone")
        backend = xla(CONFIG, served.weights, self.precision)
        return served._replace(advance=partial(backend.advance, CONFIG))


def _highest(x: Any, matrix: Any) -> Any:
    return jnp.matmul(x, matrix, precision=jax.lax.Precision.HIGHEST)


def _split(x: Any, matrix: Any) -> Any:
    """Multiply by three products of TF32 on CUDA, however small they are."""
    three = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
    split = partial(jnp.matmul, precision=three)
    return jax.lax.platform_dependent(x, matrix, cuda=split, default=_highest)


def _as_served(x: Any) -> Any:
    return x


VARIANTS: Final[dict[str, Variant]] = {
    "untuned, as reloaded": Variant(UNTUNED),
    "no command buffers": Variant({"xla_gpu_enable_command_buffer": ""}),
    "highest": Variant({}, Precision(_highest, _as_served)),
    "tf32 x3": Variant({}, Precision(_split, _as_served)),
    "tf32": Variant({}, SERVING_PRECISIONS["tf32"]),
    "bf16": Variant({}, SERVING_PRECISIONS["bfloat16"]),
}


def measure(
    calls: Calls, sizes: Sizes, expected: Expected, seconds: float
) -> dict[str, Result]:
    """Compare the variants with what is served, by bucket and variant.

    Args:
        calls: What is served.
        sizes: Names the buckets.
        expected: The scores.
        seconds: The time to measure in, besides compiling.
    """
    offered, refused = _compile(calls, sizes)
    found: dict[str, Result] = {}
    for bucket in sizes.compared:
        share_s = seconds / len(sizes.compared) / len(offered)
        found[str(bucket)] = _compare(offered, bucket, expected, share_s)
        found[str(bucket)].update(refused)
    return found


def _compile(calls: Calls, sizes: Sizes) -> tuple[dict[str, Calls], dict[str, str]]:
    """Compile every variant; return those that there are, and why the others fail."""
    offered, refused = {AS_SERVED: calls}, {}
    with ThreadPoolExecutor() as threads:
        waiting = {
            name: threads.submit(_variant, calls, sizes, variant)
            for name, variant in VARIANTS.items()
        }
        for name, variant in waiting.items():
            try:
                offered[name] = variant.result()
            except Exception as error:  # what a compiler refuses differs by version
                refused[name] = f"not offered: {str(error).splitlines()[0][:200]}"
    return offered, refused


def _variant(calls: Calls, sizes: Sizes, variant: Variant) -> Calls:
    servable = variant.servable(calls.servable)
    advance = {
        bucket: calls.trace(servable, bucket)
        .lower()
        .compile(compiler_options=variant.options)
        for bucket in sizes.compared
    }
    return calls.variant(servable, advance)


def _compare(
    offered: dict[str, Calls], bucket: Bucket, expected: Expected, seconds: float
) -> Result:
    words = cycle([jax.device_put(each) for each in batches(bucket)])
    errors = {name: error_of(one, bucket, expected) for name, one in offered.items()}
    taken: dict[str, list[float]] = {name: [] for name in offered}
    alone: dict[str, Result] = {}
    for _ in range(ROUNDS):
        for name, one in offered.items():
            call = partial(_next, one, bucket, words)
            taken[name].append(1e3 * in_turn_s(call, seconds / (2 * ROUNDS)))
            alone[name] = percentiles(call, seconds / (2 * ROUNDS))
    base = median(taken[AS_SERVED])
    return {
        name: {
            "in_turn_ms": median(ms),
            "by_served": median(ms) / base,
            "error": errors[name],
            **alone[name],
        }
        for name, ms in taken.items()
    }


def _next(calls: Calls, bucket: Bucket, words: Any) -> Any:
    return calls.advance(bucket, next(words))

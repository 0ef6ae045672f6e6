"""What the device does at its best: products, copies, launches."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from benchmarks.accelerator.sizes import Sizes

PRECISIONS: Final[dict[str, Any]] = {
    "default": None,
    "highest": "highest",
    "float32": "F32_F32_F32",
    "tf32": "TF32_TF32_F32",
    "tf32 x3": "TF32_TF32_F32_X3",
    "bf16": "BF16_BF16_F32",
    "bf16 x3": "BF16_BF16_F32_X3",
}
"""Ways to multiply float32 matrices, by JAX's name of each."""

EXACT: Final = ("highest", "tf32 x3")
"""Those with errors of the size of float32's rounding."""

LEAST_CALLS: Final = 3
PAGEABLE: Final = "pageable"
IN_TURN: Final = 32
"""Calls launched before the last is waited for, at most."""

Call = Callable[[], Any]
Result = dict[str, Any]


def percentiles(call: Call, seconds: float) -> Result:
    """Return the latency of a call whose result is waited for, ms: p50 and p99."""
    taken = samples_s(lambda _: call(), seconds)
    p50, p99 = 1e3 * np.percentile(taken, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "calls": len(taken)}


def samples_s(
    call: Callable[[Any], Any], seconds: float, prepare: Call = lambda: None
) -> list[float]:
    """Return the seconds of calls, each of which is waited for.

    Args:
        call: Takes what `prepare` returns.
        seconds: For how long.
        prepare: Runs before each call, in no call's time.
    """
    wait(call(prepare()))
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < LEAST_CALLS or time.perf_counter() < end:
        prepared = prepare()
        wait(prepared)
        began_s = time.perf_counter()
        wait(call(prepared))
        taken.append(time.perf_counter() - began_s)
    return taken


def in_turn_s(call: Call, seconds: float) -> float:
    """Return the time of a call among many that are launched without waiting, s."""
    alone_s = min(samples_s(lambda _: call(), 0.0))
    count = int(min(max(seconds / alone_s, 2), IN_TURN))
    best, end = np.inf, time.perf_counter() + seconds
    while not np.isfinite(best) or time.perf_counter() < end:
        began_s = time.perf_counter()
        for _ in range(count):
            last = call()  # earlier results are freed: they may be large
        wait(last)
        best = min(best, (time.perf_counter() - began_s) / count)
    return float(best)


def wait(result: Any) -> None:
    """Wait until a result is there."""
    jax.block_until_ready(result)  # type: ignore[no-untyped-call]


def measure(sizes: Sizes) -> Result:
    """Return every ceiling; one that the device does not offer says why."""
    return {
        "product_flops_per_s": {
            name: _or_reason(partial(product, sizes, way))
            for name, way in PRECISIONS.items()
        },
        "copy_bytes_per_s": copy(sizes),
        "launch": launch(sizes),
        "graph": graph(sizes),
        "host_to_device_bytes_per_s": {
            kind: _or_reason(partial(to_device, sizes, kind))
            for kind in (PAGEABLE, "pinned_host")
        },
        "device_to_host_bytes_per_s": {
            kind: _or_reason(partial(to_host, sizes, kind))
            for kind in (PAGEABLE, "pinned_host")
        },
    }


def exact_flops_per_s(result: Result) -> float:
    """Return the rate of products as exact as float32, by the faster way."""
    ways = (result["product_flops_per_s"][name] for name in EXACT)
    return max(way for way in ways if isinstance(way, float))


def product(sizes: Sizes, way: Any) -> float:
    """Return the rate of a large product, FLOP/s."""
    size = sizes.matrix
    precision = way
    if way is not None and way != "highest":
        precision = jax.lax.DotAlgorithmPreset[way]
    square = _random(size)
    multiply = jax.jit(partial(jnp.matmul, precision=precision))
    return 2.0 * size**3 / in_turn_s(lambda: multiply(square, square), sizes.sample_s)


def copy(sizes: Sizes) -> float:
    """Return the bytes per second that are read and written while an array is moved."""
    array = jnp.ones(sizes.copied_mib << 18, jnp.float32)
    add = jax.jit(lambda x: x + 1.0, donate_argnums=0)

    def call() -> Any:
        nonlocal array
        array = add(array)
        return array

    return 2.0 * array.nbytes / in_turn_s(call, sizes.sample_s)


def launch(sizes: Sizes) -> Result:
    """Return the time of a call of one kernel that does almost nothing."""
    return _chain(sizes, 1)


def graph(sizes: Sizes) -> Result:
    """Return the time of a call of many such kernels, each waiting for the last."""
    return {"nodes": sizes.nodes, **_chain(sizes, sizes.nodes)}


def _chain(sizes: Sizes, nodes: int) -> Result:
    barrier: Any = jax.lax.optimization_barrier

    def chain(x: Any) -> Any:
        for _ in range(nodes):
            x = barrier(x + 1.0)  # or one kernel would do all
        return x

    run, x = jax.jit(chain), jnp.zeros(256)
    each_ms = 1e3 * in_turn_s(lambda: run(x), sizes.sample_s)
    return {"in_turn_ms": each_ms, **percentiles(lambda: run(x), sizes.sample_s)}


def to_device(sizes: Sizes, kind: str) -> float:
    """Return the rate of copies to the device from a kind of host memory, bytes/s."""
    source: Any = _host(sizes)
    if kind != PAGEABLE:
        source = jax.device_put(source, _memory(kind))
    call = partial(jax.device_put, source, _memory("device"))
    return _rate(source.nbytes, samples_s(lambda _: call(), sizes.sample_s))


def to_host(sizes: Sizes, kind: str) -> float:
    """Return the rate of copies from the device, bytes/s."""
    source = jax.device_put(_host(sizes), _memory("device"))
    if kind != PAGEABLE:
        call = partial(jax.device_put, source, _memory(kind))
        return _rate(source.nbytes, samples_s(lambda _: call(), sizes.sample_s))
    add = jax.jit(lambda x: x + 1.0)  # an array keeps its copy: each is a new one
    taken = samples_s(np.array, sizes.sample_s, lambda: add(source))
    return _rate(source.nbytes, taken)


def _memory(kind: str) -> Any:
    return jax.sharding.SingleDeviceSharding(jax.devices()[0], memory_kind=kind)


def _rate(size: int, taken: list[float]) -> float:
    return float(size / min(taken))


def _host(sizes: Sizes) -> npt.NDArray[np.float32]:
    return np.ones(sizes.copied_mib << 16, np.float32)  # a quarter of the whole


def _random(size: int) -> jax.Array:
    return jax.random.uniform(jax.random.key(0), (size, size), minval=-1.0)


def _or_reason(call: Callable[[], float]) -> float | str:
    """Return a rate, or in words why the device does not offer it."""
    try:
        return call()
    except Exception as error:  # what a compiler refuses differs by version
        return f"not offered: {str(error).splitlines()[0][:200]}"

"""What the device does at its best: products, copies, launches."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
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

LEAST_CALLS: Final = 5
IN_TURN: Final = 32
"""Calls launched before the last is waited for."""

Call = Callable[[], Any]
Result = dict[str, Any]


def percentiles(call: Call, seconds: float) -> Result:
    """Return the latency of a call whose result is waited for, ms: p50 and p99."""
    wait(call())
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < LEAST_CALLS or time.perf_counter() < end:
        began_s = time.perf_counter()
        wait(call())
        taken.append(time.perf_counter() - began_s)
    p50, p99 = 1e3 * np.percentile(taken, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "calls": len(taken)}


def in_turn_s(call: Call, seconds: float) -> float:
    """Return the time of a call among many that are launched without waiting, s."""
    wait(call())
    best, end = np.inf, time.perf_counter() + seconds
    while not np.isfinite(best) or time.perf_counter() < end:
        began_s = time.perf_counter()
        last = [call() for _ in range(IN_TURN)][-1]
        wait(last)
        best = min(best, (time.perf_counter() - began_s) / IN_TURN)
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
            for kind in ("pageable", "pinned_host")
        },
        "device_to_host_bytes_per_s": {
            kind: _or_reason(partial(to_host, sizes, kind))
            for kind in ("pageable", "pinned_host")
        },
    }


def rate(result: Result) -> float:
    """Return the rate of exact float32 products, by the faster way, FLOP/s."""
    ways = (result["product_flops_per_s"][name] for name in ("tf32 x3", "highest"))
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
    def run(x: Any) -> Any:
        for _ in range(nodes):
            x = jax.lax.optimization_barrier(x + 1.0)  # or one kernel would do all
        return x

    run, x = jax.jit(run), jnp.zeros(256)
    each_ms = 1e3 * in_turn_s(lambda: run(x), sizes.sample_s)
    return {"in_turn_ms": each_ms, **percentiles(lambda: run(x), sizes.sample_s)}


def to_device(sizes: Sizes, kind: str) -> float:
    """Return the rate of copies to the device from a kind of host memory, bytes/s."""
    device, array = jax.devices()[0], _host(sizes)
    if kind == "pageable":
        source: Any = array
    else:
        pinned = jax.sharding.SingleDeviceSharding(device, memory_kind=kind)
        source = jax.device_put(array, pinned)
        wait(source)
    target = jax.sharding.SingleDeviceSharding(device, memory_kind="device")
    call = partial(jax.device_put, source, target)
    return array.nbytes / _alone_s(call, sizes.sample_s)


def to_host(sizes: Sizes, kind: str) -> float:
    """Return the rate of copies from the device, bytes/s."""
    device = jax.devices()[0]
    source = jax.device_put(_host(sizes), device)
    wait(source)
    renew = jax.jit(lambda x: x + 1.0)

    if kind != "pageable":
        pinned = jax.sharding.SingleDeviceSharding(device, memory_kind=kind)
        call: Call = partial(jax.device_put, source, pinned)
        return source.nbytes / _alone_s(call, sizes.sample_s)

    def fresh() -> Any:  # an array keeps its copy on the host, so each is a new one
        array = renew(source)
        wait(array)
        return array

    taken, end = [], time.perf_counter() + sizes.sample_s
    while len(taken) < LEAST_CALLS or time.perf_counter() < end:
        array = fresh()
        began_s = time.perf_counter()
        np.array(array)
        taken.append(time.perf_counter() - began_s)
    return float(source.nbytes / min(taken))


def _alone_s(call: Call, seconds: float) -> float:
    """Return the time of a call that is waited for, at its best, s."""
    wait(call())
    taken, end = [], time.perf_counter() + seconds
    while len(taken) < LEAST_CALLS or time.perf_counter() < end:
        began_s = time.perf_counter()
        wait(call())
        taken.append(time.perf_counter() - began_s)
    return min(taken)


def _host(sizes: Sizes) -> npt.NDArray[np.float32]:
    return np.ones(sizes.copied_mib << 16, np.float32)  # a quarter of the whole


def _random(size: int) -> jax.Array:
    return jax.random.uniform(jax.random.key(0), (size, size), minval=-1.0)


def _or_reason(call: Callable[[], float]) -> float | str:
    """Return a rate, or in words why the device does not offer it."""
    with suppress(KeyError):
        try:
            return call()
        except Exception as error:  # what a compiler refuses differs by version
            return f"not offered: {str(error).splitlines()[0][:200]}"
    return "not offered: unknown to this JAX"

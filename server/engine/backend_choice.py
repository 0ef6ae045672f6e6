"""Measures once on each machine which backend runs a network, and keeps the answer.

The native kernels are the faster ones where their vectors fit the machine. Where they
do not, as on a CPU without fused multiply-add, XLA's program is faster. Which it is, a
short run of both tells, in a process of its own once the first server is up
(`measuring`); the next start takes the faster one. One backend runs all of a model's
shapes: a stream scores the same to the last bit however it is cut only within one.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from saccade.model.backends import Backend, native, xla
from saccade.model.config import ModelConfig
from saccade.model.inference import Carry, Weights
from saccade.model.readout import init_readout
from saccade.model.state_rows import RowLayout

SHAPES: Final = ((1, 1), (8, 2))
"""The measured shapes, (sessions, ticks): a call's latency counts as much as a rate."""

SHAPE_S: Final = 0.2
TURNS: Final = 5
VOCABULARY: Final = 4096
GAP_MS: Final = 0.01

Call = Callable[[], object]


def kept_ratio(config: ModelConfig, folder: Path) -> float | None:
    """Return how many times faster than XLA native code runs a network here.

    None where it was not measured yet.

    Args:
        config: A configuration that the kernels implement.
        folder: Keeps the answers of this machine.
    """
    return _kept(_path(config, folder))


def measure(config: ModelConfig, weights: Weights, folder: Path) -> float:
    """Measure how many times faster native code is, keep the answer, and return it.

    The native code must be compiled before; XLA compiles here, for seconds.

    Args:
        config: A configuration that the kernels implement.
        weights: Those of `classifier.fold`.
        folder: Keeps the answer for the next process.
    """
    short, few, theirs = _compile_on_xla(config, weights)
    ours = native(short, few)
    assert ours is not None
    pairs = zip(_calls(short, few, ours), theirs, strict=True)
    ratio = geometric_mean(_ratio(*pair) for pair in pairs)
    _keep(_path(config, folder), ratio)
    return ratio


def _compile_on_xla(
    config: ModelConfig, weights: Weights
) -> tuple[ModelConfig, Weights, list[Call]]:
    """Return a network of one layer a stage and few tokens, and its calls on XLA."""
    short = replace(config, num_layers_per_stage=1, num_embeddings=VOCABULARY)
    rows = np.arange(VOCABULARY) % config.num_embeddings
    few = Weights(
        jax.tree.map(lambda leaf: np.asarray(leaf)[rows], weights.table),
        weights.layers[:: config.num_layers_per_stage],
        weights.decoder,
    )
    return short, few, _calls(short, few, xla(short, few))


def _calls(config: ModelConfig, weights: Weights, backend: Backend) -> list[Call]:
    """Return one call for each shape, compiled and warm."""
    return [_call(config, weights, backend, *shape) for shape in SHAPES]


def _call(
    config: ModelConfig, weights: Weights, backend: Backend, rows: int, ticks: int
) -> Call:
    rng = np.random.default_rng(0)
    size = rows, ticks * config.tick_events
    tokens = rng.integers(config.num_embeddings, size=size, dtype=np.int32)
    dt_ms = rng.exponential(GAP_MS, size).astype(np.float32)
    batch = *map(jnp.asarray, (tokens, dt_ms)), jnp.full(rows, ticks, jnp.int32)
    fresh = _carry(weights)
    layout = RowLayout(fresh)
    pool = jnp.stack([layout.to_rows(fresh)] * rows)
    move = jax.jit(backend.in_rows(config, layout))
    places = jnp.arange(rows, dtype=jnp.int32)
    call = partial(_wait, move, backend.weights, pool, places, *batch)
    call()
    return call


def _wait(move: Callable[..., Any], *arguments: Any) -> None:
    jax.block_until_ready(move(*arguments))  # type: ignore[no-untyped-call]


def _carry(weights: Weights) -> Carry:
    """Return a new session's carry."""
    states = [layer.rates[0].size for layer in weights.layers]
    return Carry(
        tuple(jnp.zeros(size, jnp.complex64) for size in states),
        init_readout(len(weights.decoder.kernel), jnp.inf),
    )


def _ratio(ours: Call, theirs: Call) -> float:
    """Time two calls in turn; return the second one's median by the first one's."""
    taken: tuple[list[float], list[float]] = [], []
    end = time.perf_counter() + SHAPE_S
    while len(taken[0]) < TURNS or time.perf_counter() < end:
        for call, seconds in zip((ours, theirs), taken, strict=True):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return median(taken[1]) / median(taken[0])


def _path(config: ModelConfig, folder: Path) -> Path:
    return folder / f"backend-{_key(config)}.json"


def _key(config: ModelConfig) -> str:
    """Return a name that changes with all that the answer depends on."""
    return hashlib.sha256("\n".join(_facts(config)).encode()).hexdigest()[:16]


def _facts(config: ModelConfig) -> Iterator[str]:
    from saccade.model.cpu_kernels.machine import cpu_name, features
    from saccade.model.cpu_kernels.version import sources_version

    yield from (repr(config), repr(SHAPES), jax.__version__, platform.python_version())
    yield from (cpu_name(), *sorted(features()), str(os.cpu_count()))
    variables = (os.environ.get(name, "") for name in ("XLA_FLAGS", "NPROC"))
    yield from (*variables, str(sources_version()))


def _kept(path: Path) -> float | None:
    """Return the ratio that a file holds, if it holds one."""
    try:
        return float(json.loads(path.read_text())["native_by_xla"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there is none yet, or it is damaged: measured again


def _keep(path: Path, ratio: float) -> None:
    """Write a ratio where no process sees half a file; a full disk keeps nothing."""
    written = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps({"native_by_xla": ratio}) + "\n")
        written.replace(path)
    except OSError:
        with suppress(OSError):
            written.unlink()

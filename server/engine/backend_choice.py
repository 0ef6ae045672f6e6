"""Measures once on each machine which backend runs a network, and keeps the answer.

The native kernels are the faster ones where their vectors fit the machine. Where they
do not, as on a CPU without fused multiply-add, XLA's program is faster. Which it is, a
short run of both tells. One backend runs all of a model's shapes: a stream scores the
same to the last bit however it is cut only within one backend.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

SHAPES: Final = ((1, 1), (8, 2))
"""The measured shapes, (sessions, ticks): a call's latency counts as much as a rate."""

SHAPE_S: Final = 0.2
TURNS: Final = 5
VOCABULARY: Final = 4096
GAP_MS: Final = 0.01

_BESIDE: Final = ThreadPoolExecutor(1, "XLA for a choice")

Call = Callable[[], object]


class Choice:
    """Whether native code is the faster one for a network, as measured on this machine.

    Without an answer in the folder, XLA begins at once to compile a short network, on a
    thread that all choices share, so that it is done when the native code is.

    Args:
        config: A configuration that the kernels implement.
        weights: Returns those of `classifier.fold`.
        folder: Keeps the answer for the next process.
    """

    def __init__(
        self, config: ModelConfig, weights: Callable[[], Weights], folder: Path
    ) -> None:
        self._path = folder / f"backend-{_key(config)}.json"
        self._ratio = _kept(self._path)
        if self._ratio is None:
            self._begun = _BESIDE.submit(_compile_on_xla, config, weights)

    def native_is_faster(self, prepare: Call) -> bool:
        """Return whether native code is faster here, as measured now or before.

        Args:
            prepare: Compiles the native code, or waits until it is compiled.
        """
        if self._ratio is None:
            self._ratio = self._compare(prepare)
            _keep(self._path, self._ratio)
        return self._ratio >= 1.0

    def _compare(self, prepare: Call) -> float:
        """Return how many times faster than XLA native code runs the short network."""
        prepare()
        short, few, theirs = self._begun.result()
        ours = native(short, few)
        assert ours is not None
        pairs = zip(_calls(short, few, ours), theirs, strict=True)
        return geometric_mean(_ratio(*pair) for pair in pairs)


def _compile_on_xla(
    config: ModelConfig, weights: Callable[[], Weights]
) -> tuple[ModelConfig, Weights, list[Call]]:
    """Return a network of one layer a stage and few tokens, and its calls on XLA."""
    short = replace(config, num_layers_per_stage=1, num_embeddings=VOCABULARY)
    rows, whole = np.arange(VOCABULARY) % config.num_embeddings, weights()
    few = Weights(
        jax.tree.map(lambda leaf: np.asarray(leaf)[rows], whole.table),
        whole.layers[:: config.num_layers_per_stage],
        whole.decoder,
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
    carry = _carry(config, weights, rows)
    move = jax.jit(partial(backend.advance, config))
    call = partial(_wait, move, backend.weights, carry, *batch)
    call()
    return call


def _wait(move: Callable[..., Any], *arguments: Any) -> None:
    jax.block_until_ready(move(*arguments))  # type: ignore[no-untyped-call]


def _carry(config: ModelConfig, weights: Weights, rows: int) -> Carry:
    """Return new sessions' carries."""
    states = [layer.rates[0].size for layer in weights.layers]
    readout = init_readout(len(weights.decoder.kernel), jnp.inf)
    return Carry(
        tuple(jnp.zeros((rows, size), jnp.complex64) for size in states),
        jax.tree.map(lambda leaf: jnp.stack([leaf] * rows), readout),
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


def _key(config: ModelConfig) -> str:
    """Return a name that changes with all that the answer depends on."""
    return hashlib.sha256("\n".join(_facts(config)).encode()).hexdigest()[:16]


def _facts(config: ModelConfig) -> Iterator[str]:
    from saccade.model.cpu_kernels.machine import cpu_name, features
    from saccade.model.cpu_kernels.version import sources_version

    yield from (repr(config), repr(SHAPES), jax.__version__, platform.python_version())
    yield from (cpu_name(), *sorted(features()), str(os.cpu_count()))
    yield from (os.environ.get("XLA_FLAGS", ""), str(sources_version()))


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

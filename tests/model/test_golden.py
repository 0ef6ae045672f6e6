"""The reference implementation's outputs, reproduced by scan, step and advance.

The files are not part of this repository: set SACCADE_GOLDEN_DIR.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model import classifier, inference
from saccade.model.backends import fastest, native, xla
from saccade.model.classifier import Classifier, Variables
from saccade.model.config import ModelConfig
from tests.compiling import SERVED

GOLDEN = Path(
    os.environ.get(
        "SACCADE_GOLDEN_DIR", Path(__file__).parents[2].parent / "shared" / "golden"
    )
)
PUBLISHED = sorted(GOLDEN.glob("*.npz"))
SYNTHETIC = sorted(GOLDEN.glob("synth/*.npz"))
LIMIT = {np.float32: 3e-5, np.float64: 1e-9}
QUICKLY: dict[str, Any] = {}
"""As the tests' own process compiles; no server runs `step`, or float64."""
SMALL: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
"""For all the small models, whose tests compile for longer than they compute."""
pytestmark = pytest.mark.skipif(
    not PUBLISHED, reason=f"no golden files in {GOLDEN} (set SACCADE_GOLDEN_DIR)"
)
precision = pytest.mark.parametrize("dtype", [np.float32, np.float64])


class Golden(NamedTuple):
    config: ModelConfig
    variables: Variables
    arrays: dict[str, Any]


def read(path: Path, dtype: type[np.floating[Any]]) -> Golden:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    facts = json.loads(str(arrays["config"]))
    config = ModelConfig(
        num_embeddings=facts["num_embeddings"],
        num_classes=facts["num_classes"],
        **facts["model"]["ssm"],
        **facts["model"]["ssm_init"],
    )
    variables: Variables = {}
    for name, array in arrays.items():
        if name.startswith(("params/", "batch_stats/")):
            *path_in, leaf = name.split("/")
            node = variables
            for part in path_in:
                node = node.setdefault(part, {})
            node[leaf] = jnp.asarray(array.astype(dtype))
    return Golden(config, variables, arrays)


def deviation(logits: Any, truth: Any) -> float:
    return float(np.abs(np.asarray(logits) - truth).max() / np.abs(truth).max())


@pytest.fixture
def exact(dtype: type[np.floating[Any]]) -> Any:
    """Run in the precision that a test asks for, with exact matrix products."""
    with (
        jax.enable_x64(dtype is np.float64),
        jax.default_matmul_precision("highest"),
    ):
        yield


def whole_rows(golden: Golden) -> list[tuple[Any, Any, Any]]:
    """Return tokens, gaps and truth of each row that is not padded."""
    rows = []
    for name in ("a", "b"):
        parts = {
            key: golden.arrays[f"input/{name}/{key}"]
            for key in ("tokens", "timesteps_ms", "lengths", "logits_f64")
        }
        for row, length in enumerate(parts["lengths"]):
            if length == parts["tokens"].shape[1]:
                rows.append(
                    (
                        parts["tokens"][row],
                        parts["timesteps_ms"][row],
                        parts["logits_f64"][row],
                    )
                )
    return rows


published = pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
single = pytest.mark.parametrize("dtype", [np.float32])
either = pytest.mark.parametrize(
    "dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)]
)


@published
@precision
@pytest.mark.usefixtures("exact")
def test_published_models_score_whole_sequences_as_the_reference_does(
    path: Path, dtype: type[np.floating[Any]]
) -> None:
    golden = read(path, dtype)
    options = SERVED if dtype is np.float32 else QUICKLY
    scan = jax.jit(classifier.scan, static_argnums=0, compiler_options=options)
    for tokens, gaps, truth in whole_rows(golden):
        logits = scan(golden.config, golden.variables, tokens, gaps.astype(dtype))
        assert deviation(logits, truth) <= LIMIT[dtype]


@published
@either
@pytest.mark.usefixtures("exact")
def test_published_models_score_prefixes_event_by_event(
    path: Path, dtype: type[np.floating[Any]]
) -> None:
    golden = read(path, dtype)
    logits = by_step(golden, dtype)(*longest(golden))
    for length, truth in prefixes(golden):
        assert deviation(logits[length - 1], truth) <= LIMIT[dtype]


@published
@either
@pytest.mark.usefixtures("exact")
def test_published_models_score_prefixes_tick_by_tick(
    path: Path, dtype: type[np.floating[Any]]
) -> None:
    golden = read(path, dtype)
    options = SERVED if dtype is np.float32 else QUICKLY
    logits = by_advance(golden, dtype, options)(*longest(golden))
    for length, truth in prefixes(golden):
        tick = length // golden.config.tick_events
        assert deviation(logits[tick - 1], truth) <= LIMIT[dtype]


@published
@single
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="that is for a CPU")
@pytest.mark.usefixtures("exact")
def test_published_models_score_prefixes_in_native_code(
    path: Path, dtype: type[np.floating[Any]]
) -> None:
    pytest.importorskip("numba", reason="no native code without numba")
    golden = read(path, dtype)
    logits = by_advance(golden, dtype, execute=native)(*longest(golden))
    for length, truth in prefixes(golden):
        tick = length // golden.config.tick_events
        assert deviation(logits[tick - 1], truth) <= LIMIT[dtype]


def prefixes(golden: Golden) -> list[tuple[int, Any]]:
    lengths = golden.arrays["prefix/lengths"].tolist()
    return list(zip(lengths, golden.arrays["prefix/logits_f64"], strict=True))


def longest(golden: Golden) -> tuple[Any, Any]:
    tokens, gaps, _ = whole_rows(golden)[-1]
    return tokens, gaps


def by_step(golden: Golden, dtype: type[np.floating[Any]]) -> Any:
    """Return what gives the logits after each event, by `step` alone."""
    config = golden.config
    weights = classifier.fold(config, golden.variables)

    @jax.jit
    def run(weights: Any, state: Any, tokens: Any, gaps: Any) -> Any:
        def move(state: Any, event: Any) -> Any:
            state, logits, _ = inference.step(config, weights, state, *event)
            return state, logits

        return jax.lax.scan(move, state, (tokens, gaps))[1]

    fresh = classifier.init_state(config, golden.variables)

    def score(tokens: Any, gaps: Any) -> Any:
        return np.asarray(run(weights, fresh, tokens, gaps.astype(dtype)))

    return score


def by_advance(
    golden: Golden,
    dtype: type[np.floating[Any]],
    options: Mapping[str, Any] = SERVED,
    execute: Any = xla,
) -> Any:
    """Return what gives the logits after each tick, by `advance` alone.

    The session sits in the middle row of three; its neighbours stay idle.
    """
    config, tick = golden.config, golden.config.tick_events
    _, weights, advance, *_ = execute(config, classifier.fold(config, golden.variables))
    fresh = classifier.init_carry(config, golden.variables)
    pool = jax.tree.map(lambda x: jnp.stack([x] * 3), fresh)
    move = jax.jit(functools.partial(advance, config), compiler_options=options)

    def score(tokens: Any, gaps: Any) -> Any:
        carry, scores = pool, []
        for start in range(0, len(tokens) // tick * tick, tick):
            part = slice(start, start + tick)
            words, dt_ms = np.zeros((3, tick), np.int32), np.zeros((3, tick), dtype)
            words[1], dt_ms[1] = tokens[part], gaps[part]
            carry, logits = move(weights, carry, words, dt_ms, np.asarray([0, 1, 0]))
            scores.append(np.asarray(logits[1, 0]))
        return np.asarray(scores)

    return score


def check_synthetic(
    path: Path,
    dtype: type[np.floating[Any]],
    options: Mapping[str, Any],
    execute: Any,
    *,
    stepwise: bool = True,
) -> None:
    """Hold one small model to the reference in all three functions.

    Row b[2] is padded: it holds the events of a, whose score it must have.
    """
    golden = read(path, dtype)
    arrays = golden.arrays
    infer = jax.jit(
        functools.partial(Classifier(golden.config).apply, train=False),
        compiler_options=options,
    )
    logits = infer(
        golden.variables,
        arrays["input/b/tokens"] % golden.config.num_embeddings,
        arrays["input/b/timesteps_ms"].astype(dtype),
        arrays["input/b/lengths"],
    )
    full = arrays["input/b/logits_f64"][0]
    short = arrays["input/a/logits_f64"][0]
    tick = golden.config.tick_events
    assert deviation(logits[0], full) <= LIMIT[dtype]
    assert deviation(logits[2], short) <= LIMIT[dtype]
    advance = by_advance(golden, dtype, options, execute)
    step = by_step(golden, dtype) if stepwise else None
    for row, truth in ((0, full), (2, short)):
        tokens = arrays["input/b/tokens"][row] % golden.config.num_embeddings
        gaps = arrays["input/b/timesteps_ms"][row]
        ticks = arrays["input/b/lengths"][row] // tick
        assert deviation(advance(tokens, gaps)[ticks - 1], truth) <= LIMIT[dtype]
        if step is not None:
            last = step(tokens, gaps)[ticks * tick - 1]
            assert deviation(last, truth) <= LIMIT[dtype]


@pytest.mark.parametrize("path", SYNTHETIC[::72], ids=lambda path: path.stem)
@single
@pytest.mark.usefixtures("exact")
def test_a_sample_of_the_small_models_scores_as_the_reference_does(
    path: Path, dtype: type[np.floating[Any]]
) -> None:
    check_synthetic(path, dtype, SERVED, xla)


@pytest.mark.slow
@pytest.mark.parametrize("path", SYNTHETIC, ids=lambda path: path.stem)
@precision
@pytest.mark.usefixtures("exact")
def test_every_small_model_scores_as_the_reference_does(
    path: Path, dtype: type[np.floating[Any]]
) -> None:
    """`advance` in float32 is what serves here; float64 has XLA's, and `step` too."""
    stepwise = dtype is np.float64
    check_synthetic(path, dtype, SMALL, fastest, stepwise=stepwise)

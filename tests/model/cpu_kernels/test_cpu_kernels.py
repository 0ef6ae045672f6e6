"""The native kernels move sessions as XLA's program does, however the work is cut."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from saccade.model import classifier
from saccade.model.backends import fastest, native, xla
from saccade.model.config import ModelConfig
from saccade.model.state_rows import RowLayout
from tests.model.test_every_variant import Variant, drawing, variants
from tests.model.variants import VARIANTS, random_variables, small

pytest.importorskip("numba", reason="no native code without numba")

from saccade.model.cpu_kernels import packing

packing.THREAD_WORK = 1  # type: ignore[misc]  # threads share these small calls too
pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="native code is for a CPU"
)
TOLERANCE = 2e-5  # of max |logit|, float32
SESSIONS = 5
TICKS = 9

variant = pytest.mark.parametrize("index", range(len(VARIANTS)))


class Batch(NamedTuple):
    """Tokens and gaps of some sessions, and how many ticks each moves."""

    tokens: Any
    dt_ms: Any
    ticks: Any


class Network:
    """A variant on the native kernels, and the same as a program of XLA's."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        variables = jax.tree.map(jnp.asarray, random_variables(config))
        weights = classifier.fold(config, variables)
        self.begin = partial(classifier.init_carry, config, variables)
        self.layout = RowLayout(self.begin(jnp.float32(np.inf)))
        ours, theirs = native(config, weights), xla(config, weights)
        assert ours is not None
        assert ours.advance_rows is not None
        self.native = partial(jax.jit(partial(ours.advance, config)), ours.weights)
        self.rows = partial(jax.jit(partial(ours.advance_rows, config)), ours.weights)
        self.xla = partial(jax.jit(partial(theirs.advance, config)), theirs.weights)

    def carries(self, half_life_ms: float, rows: int = SESSIONS) -> Any:
        fresh = self.begin(jnp.float32(half_life_ms))
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * rows), fresh)

    def batch(self, seed: int, ticks: int = TICKS, gap_ms: float = 1.0) -> Batch:
        rng = np.random.default_rng(seed)
        size = (SESSIONS, ticks * self.config.tick_events)
        tokens = rng.integers(self.config.num_embeddings, size=size, dtype=np.int32)
        dt_ms = rng.exponential(gap_ms, size).astype(np.float32)
        dt_ms[rng.random(size) < 0.3] = 0.0
        moving = rng.integers(0, ticks + 1, SESSIONS).astype(np.int32)
        moving[:2] = 0, ticks
        return Batch(tokens, dt_ms, moving)


@cache
def network(index: int) -> Network:
    return Network(VARIANTS[index])


def same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def compare(of: Network, batch: Batch, half_life_ms: float) -> None:
    """Move the same sessions twice in both ways; hold scores and states together."""
    ours = theirs = of.carries(half_life_ms)
    for _ in range(2):
        before = ours
        ours, logits = of.native(ours, *batch)
        theirs, truth = of.xla(theirs, *batch)
        scale = max(float(jnp.abs(truth).max()), 1e-3)
        assert jnp.abs(logits - truth).max() <= TOLERANCE * scale
        for a, b in zip(ours.ssm, theirs.ssm, strict=True):
            assert jnp.abs(a - b).max() <= TOLERANCE * max(float(jnp.abs(b).max()), 1.0)
        for row in np.flatnonzero(batch.ticks == 0):
            rows = [jax.tree.map(lambda x, r=row: x[r], c) for c in (before, ours)]
            assert same(*rows), "an idle row has moved"


@variant
@pytest.mark.parametrize("half_life_ms", [np.inf, 30.0])
def test_every_variant_moves_sessions_as_the_program_of_xla_does(
    index: int, half_life_ms: float
) -> None:
    compare(network(index), network(index).batch(index), half_life_ms)


@drawing(max_examples=2, derandomize=True)
@given(variants(), st.sampled_from([0.01, 1.0, 3e4]))
def test_a_few_drawn_variants_do_so_too(drawn: Variant, gap_ms: float) -> None:
    of = Network(drawn.config)
    compare(of, of.batch(0, ticks=3, gap_ms=gap_ms), np.inf)


@pytest.mark.slow
@drawing(max_examples=10)
@given(variants(), st.sampled_from([0.01, 1.0, 3e4]))
def test_drawn_variants_do_so_too(drawn: Variant, gap_ms: float) -> None:
    of = Network(drawn.config)
    compare(of, of.batch(0, ticks=3, gap_ms=gap_ms), np.inf)


@variant
@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_a_stream_scores_the_same_to_the_last_bit_however_it_is_cut(
    index: int, seed: int, most: int
) -> None:
    """Blocks, threads and neighbours differ from call to call, and change nothing."""
    of, tick = network(index), VARIANTS[index].tick_events
    tokens, dt_ms, _ = of.batch(7)
    everything = np.full(SESSIONS, TICKS, np.int32)
    whole, scores = of.native(of.carries(50.0), tokens, dt_ms, everything)
    carry, done = of.carries(50.0), np.zeros(SESSIONS, int)
    rng = np.random.default_rng(seed)
    while (done < TICKS).any():
        turn = np.minimum(rng.integers(0, most + 1, SESSIONS), TICKS - done)
        parts = [np.zeros((SESSIONS, most * tick), x.dtype) for x in (tokens, dt_ms)]
        for row, (begin, ticks) in enumerate(zip(done, turn, strict=True)):
            piece = slice(begin * tick, (begin + ticks) * tick)
            for part, source in zip(parts, (tokens, dt_ms), strict=True):
                part[row, : ticks * tick] = source[row, piece]
        carry, logits = of.native(carry, *parts, turn.astype(np.int32))
        for row, (begin, ticks) in enumerate(zip(done, turn, strict=True)):
            expected = np.asarray(scores[row, begin : begin + ticks])
            assert np.asarray(logits[row, :ticks]).tobytes() == expected.tobytes()
        done += turn
    assert same(carry, whole)


def test_past_its_own_ticks_a_session_repeats_its_last_scores() -> None:
    of = network(0)
    tokens, dt_ms, _ = of.batch(1)
    carry, _ = of.native(of.carries(np.inf), tokens, dt_ms, np.full(SESSIONS, 1))
    ticks = np.asarray([0, 1, 4, 8, 9], np.int32)
    _, ours = of.native(carry, tokens, dt_ms, ticks)
    _, theirs = of.xla(carry, tokens, dt_ms, ticks)
    scale = float(jnp.abs(theirs).max())
    for row, count in enumerate(ticks):
        rest = np.asarray(ours[row, max(count, 1) - 1 :])
        assert (rest == rest[0]).all()
        assert np.abs(rest - theirs[row, -1]).max() <= TOLERANCE * scale


@pytest.mark.parametrize("before", [2**24, 2**31])
def test_the_mean_goes_on_where_float32_alone_would_stand_still(before: int) -> None:
    """Where the newest tick alone counts, the scores tell what each puts out."""
    ticks, calls, start = 1 << 16, 6, 3.0
    shape = {"num_stages": 1, "num_layers_per_stage": 1, "pooling_stride": 1}
    newest, pooled = (
        Network(small(classification_mode=mode, **shape)) for mode in ("last", "pool")
    )
    fresh = pooled.carries(np.inf, rows=1)
    readout = fresh.readout._replace(
        mean=jnp.full_like(fresh.readout.mean, start),
        weight=jnp.full_like(fresh.readout.weight, before),
    )
    carry, other = fresh._replace(readout=readout), newest.carries(np.inf, rows=1)
    nothing = np.zeros((1, ticks), np.int32), np.zeros((1, ticks), np.float32)
    _, first = pooled.native(carry, *nothing, np.zeros(1, np.int32))
    total, rng = before * np.float64(first[0, 0]), np.random.default_rng(0)
    for _ in range(calls):
        tokens = rng.integers(50, size=(1, ticks), dtype=np.int32)
        dt_ms = rng.exponential(1.0, (1, ticks)).astype(np.float32)
        batch = tokens, dt_ms, np.full(1, ticks, np.int32)
        carry, logits = pooled.native(carry, *batch)
        other, each = newest.native(other, *batch)
        total = total + np.asarray(each[0], np.float64).sum(axis=0)
    exact = total / (before + calls * ticks)
    moved = np.abs(exact - np.asarray(first[0, 0])).max()
    error = np.abs(np.asarray(logits[0, -1], np.float64) - exact).max()
    assert error <= 1e-4 * np.abs(exact).max()
    assert error <= 0.02 * moved, "it has moved as far as it should"


def test_rows_of_a_pool_are_moved_where_they_are_and_no_others() -> None:
    of = network(0)
    batch = of.batch(3)
    layout = of.layout
    pool = layout.to_rows(of.carries(np.inf, rows=12))
    places = np.asarray([11, 4, 0, 7, 11], np.int32)  # the first and last do not move
    batch = batch._replace(ticks=np.asarray([0, 9, 2, 5, 0], np.int32))
    moved, logits = of.rows(pool, places, *batch)
    alone, scores = of.native(of.carries(np.inf), *batch)
    assert same(logits, scores)
    assert same(moved[places[1:4]], layout.to_rows(alone)[1:4])
    rest = np.setdiff1d(np.arange(12), places[1:4])
    assert same(moved[rest], pool[rest])


def test_a_pool_of_another_width_is_refused_in_words() -> None:
    of = network(0)
    pool = jnp.zeros((3, of.layout.width + 1))
    with pytest.raises(ValueError, match=r"a pool is float32 \(rows, \d+\), not"):
        of.rows(pool, np.arange(SESSIONS, dtype=np.int32), *of.batch(0))


def test_tokens_and_rows_that_do_not_exist_are_as_harmless_as_to_xla() -> None:
    """Both take the nearest that does; nothing beyond an array is ever read."""
    of = network(0)
    tokens, dt_ms, ticks = of.batch(2)
    wild, tame = tokens.copy(), tokens.copy()
    wild[:, ::3], tame[:, ::3] = -(2**31), 0
    wild[:, 1::3], tame[:, 1::3] = 2**31 - 1, VARIANTS[0].num_embeddings - 1
    expected = of.native(of.carries(np.inf), tame, dt_ms, ticks)
    assert same(of.native(of.carries(np.inf), wild, dt_ms, ticks), expected)
    beyond = np.asarray([-5, 1, 2, 3, 2**31 - 1], np.int32)
    within = np.arange(SESSIONS, dtype=np.int32)
    pool = of.layout.to_rows(of.carries(np.inf))
    moved = [of.rows(pool, rows, tokens, dt_ms, ticks) for rows in (beyond, within)]
    assert same(*moved)
    many = of.native(of.carries(np.inf), tokens, dt_ms, np.full(SESSIONS, 10**6))
    assert same(many, of.native(of.carries(np.inf), tokens, dt_ms, np.full(5, TICKS)))


def test_calls_from_several_threads_do_not_meet() -> None:
    of = network(0)
    batches = [of.batch(seed) for seed in range(8)]
    fresh = of.carries(np.inf)
    expected = [of.native(fresh, *batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            found = threads.map(lambda batch: of.native(fresh, *batch), batches)
            assert all(map(same, found, expected))


def test_double_precision_is_left_to_xla() -> None:
    config = VARIANTS[0]
    with jax.enable_x64(True):
        variables = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), random_variables(config)
        )
        weights = classifier.fold(config, variables)
        assert native(config, weights) is None
        assert fastest(config, weights).name == "xla"


def test_carries_in_double_precision_are_refused_in_words() -> None:
    of = network(0)
    single = of.carries(np.inf)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), single.readout)
        with pytest.raises(TypeError, match=r"not .'float64'.: use XLA"):
            of.native(single._replace(readout=wide), *of.batch(0))


UNUSABLE = """
import sys, warnings
sys.modules["llvmlite"] = None  # as if it could not be loaded
import jax
from saccade.model.backends import fastest
from saccade.model.classifier import fold, initialize
from saccade.model.config import ModelConfig
config = ModelConfig(num_embeddings=8, num_classes=2, d_model=8, d_ssm=16)
weights = fold(config, initialize(config, jax.random.key(0)))
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    print(fastest(config, weights).name, [str(w.message)[:14] for w in warned])
"""


def test_where_numba_does_not_load_xla_runs_the_network_and_a_warning_says_so() -> None:
    assert in_a_process(UNUSABLE) == "xla ['no native code']"


COUNT_HITS = """
from saccade.model.cpu_kernels import handler
handler.target()
print(handler.c_function(handler.sources_version(), keep=True).cache_hits)
"""
USE = """
import jax, numpy as np
from saccade.model.cpu_kernels.handler import target
print(target()[:16])
"""


def in_a_process(program: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.slow
def test_machine_code_is_kept_for_the_next_process_unless_it_is_damaged(
    tmp_path: Path,
) -> None:
    in_a_process(USE, NUMBA_CACHE_DIR=str(tmp_path))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    assert sorted(path.suffix for path in kept) == [".nbc", ".nbi"]
    assert in_a_process(COUNT_HITS, NUMBA_CACHE_DIR=str(tmp_path)) == "1"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for path in kept:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert in_a_process(USE, NUMBA_CACHE_DIR=str(tmp_path)) == "saccade_advance_"
    assert not list(tmp_path.rglob("*.nb?")), "the next process keeps it anew"


@pytest.mark.slow
def test_where_nothing_can_be_kept_it_is_made_again(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    name = in_a_process(USE, NUMBA_CACHE_DIR=str(blocked / "folder"))
    assert name == "saccade_advance_"

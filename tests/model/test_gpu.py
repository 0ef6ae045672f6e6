"""What serves on an accelerator: compiled buckets, and how exactly they score.

It needs JAX with the accelerator's plugin, Flax, NumPy, Numba, msgpack and pytest, none
of pytest's plugins, and less than 8 minutes on one card:

    PYTHONPATH=src python -m pytest -c /dev/null --rootdir . --noconftest \
        --import-mode importlib -rP tests/model/test_gpu.py

In an environment for development it is `pytest -m gpu -rP`. Where JAX finds no
accelerator the tests skip; with SACCADE_TEST_GPU_ON_CPU=1 they run on the CPU, with
XLA's program and a small network, and try the tests themselves.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model import classifier, inference
from saccade.model.backends import xla
from saccade.model.classifier import Variables
from saccade.model.config import ModelConfig
from saccade.model.state_rows import RowLeaves
from saccade.server.engine.compiled import (
    CANARY_TOLERANCES,
    WHOLE_SESSION,
    check_canary,
    compile_all,
)
from saccade.server.engine.model_registry import Canary, Servable
from saccade.server.engine.scheduler import ACCELERATOR_BUCKETS, Bucket
from saccade.server.engine.slots import packed_size, padding_rows, unpack
from tests.model.test_golden import PUBLISHED, deviation, prefixes, read, whole_rows
from tests.model.variants import VARIANTS, random_variables

ON_CPU: Final = os.environ.get("SACCADE_TEST_GPU_ON_CPU") == "1"
CPU: Final = jax.devices("cpu")[0]
ACCELERATORS: Final = [each for each in jax.devices() if each.platform != "cpu"]
DEVICE: Final = (ACCELERATORS or [CPU])[0]

DVS_SMALL: Final = ModelConfig(
    num_embeddings=32768, num_classes=11, state_expansion_factor=2, dropout=0.25
)
CONFIG: Final = DVS_SMALL if ACCELERATORS else VARIANTS[0]
TICK: Final = CONFIG.tick_events
FEW: Final = tuple(Bucket(*shape) for shape in ((1, 1), (1, 4), (16, 1), (64, 2)))
BUCKETS: Final = ACCELERATOR_BUCKETS if ACCELERATORS else FEW
SLOTS: Final = max(bucket.rows for bucket in BUCKETS)
LAST: Final = SLOTS - 1
STREAMS: Final = 37
"""Different streams in a call; row k has stream k modulo this prime."""
CALLS: Final = 2
MIXED_TICKS: Final = 8
"""Ticks of a call, at most, where one session goes through all buckets and back."""
STREAM_TICKS: Final = max(
    CALLS * max(bucket.ticks for bucket in BUCKETS),
    2 * sum(min(bucket.ticks, MIXED_TICKS) for bucket in BUCKETS),
)

TOLERANCE: Final = 1e-4
"""Of a stream's largest score: what a canary may miss by. TF32 misses by 9e-4."""
STATE_TOLERANCE: Final = 2e-5
"""Of the largest score or state, where networks are small."""

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not ACCELERATORS and not ON_CPU,
        reason="JAX finds no accelerator (SACCADE_TEST_GPU_ON_CPU=1 runs on a CPU)",
    ),
]
every_bucket = pytest.mark.parametrize("bucket", BUCKETS, ids=str)
KINDS: Final = range(len(VARIANTS) if ACCELERATORS else 1)
variant = pytest.mark.parametrize("index", KINDS)
published = pytest.mark.parametrize(
    "path", PUBLISHED if ACCELERATORS else PUBLISHED[-1:], ids=lambda path: path.stem
)


class Streams:
    """Streams of events, and the scores after each tick that a CPU computes."""

    def __init__(self, config: ModelConfig, variables: Variables) -> None:
        rng = np.random.default_rng(5)
        size = (STREAMS, STREAM_TICKS * config.tick_events)
        self.tokens = rng.integers(config.num_embeddings, size=size, dtype=np.int32)
        self.dt_ms = rng.exponential(0.01, size).astype(np.float32)
        self.scores = self._score(config, variables)

    def _score(self, config: ModelConfig, variables: Variables) -> Any:
        """Move all streams tick by tick on the CPU; return (n, k, c)."""
        with jax.default_device(CPU):
            weights = classifier.fold(config, jax.device_put(variables, CPU))
            fresh = classifier.init_carry(config, variables)
            carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * STREAMS), fresh)
            move = jax.jit(partial(inference.advance, config))
            one, scores = np.ones(STREAMS, np.int32), []
            for start in range(0, self.tokens.shape[1], config.tick_events):
                part = slice(start, start + config.tick_events)
                events = self.tokens[:, part], self.dt_ms[:, part]
                carry, logits = move(weights, carry, *events, one)
                scores.append(np.asarray(logits[:, 0]))
        return np.stack(scores, axis=1)


class Served:
    """A network in compiled buckets, as a server's engine has it, and their pool."""

    def __init__(
        self,
        config: ModelConfig,
        variables: Variables,
        canary: Canary,
        buckets: tuple[Bucket, ...],
    ) -> None:
        with jax.default_device(DEVICE):
            placed = jax.device_put(variables, DEVICE)
            backend = xla(config, classifier.fold(config, placed))
            self.servable = Servable(
                name="network",
                tick_events=config.tick_events,
                classes=config.num_classes,
                weights=backend.weights,
                fresh=partial(classifier.init_carry, config, placed),
                advance=partial(backend.advance, config),
                canary=canary,
            )
            self.calls, self.pool = compile_all(
                self.servable, SLOTS, buckets, lambda _: None
            )

    def begin(self, rows: Any) -> None:
        """Begin a session in each of some rows."""
        fresh = self.calls.fresh(WHOLE_SESSION)
        for row in rows:
            self.pool = self.calls.insert(self.pool, np.int32(row), fresh)

    def move(self, bucket: Bucket, rows: Any, tokens: Any, dt_ms: Any) -> Any:
        """Move sessions by a bucket's ticks; the bucket's other rows are padding."""
        words = np.zeros(packed_size(bucket, self.servable.tick_events), np.int32)
        batch, used = unpack(words, bucket), len(rows)
        batch.rows[:used] = rows
        batch.rows[used:] = padding_rows(SLOTS, bucket.rows - used)
        batch.ticks[:used] = tokens.shape[1] // self.servable.tick_events
        batch.tokens[:used, : tokens.shape[1]] = tokens
        batch.dt_ms[:used, : tokens.shape[1]] = dt_ms
        call = self.calls.advance[bucket]
        self.pool, logits = call(self.servable.weights, self.pool, words)
        return np.asarray(logits)[:used]

    def export(self, row: int) -> list[Any]:
        """Return a session's arrays, as a snapshot has them."""
        numbers = self.calls.extract[1](self.pool, np.asarray([row], np.int32))
        return [*RowLeaves(self.calls.layout, np.asarray(numbers)[0])]

    def resume(self, row: int, leaves: list[Any]) -> None:
        """Continue an exported session in a row."""
        numbers = self.calls.layout.to_row(leaves)
        self.pool = self.calls.insert(self.pool, np.int32(row), numbers)


@pytest.fixture(scope="module")
def variables() -> Variables:
    with jax.default_device(CPU):
        return classifier.initialize(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module")
def streams(variables: Variables) -> Streams:
    return Streams(CONFIG, variables)


@pytest.fixture(scope="module")
def served(variables: Variables, streams: Streams) -> Served:
    tokens, dt_ms = streams.tokens[0, : 4 * TICK], streams.dt_ms[0, : 4 * TICK]
    canary = Canary(tokens, dt_ms, streams.scores[0, 3])
    return Served(CONFIG, variables, canary, BUCKETS)


def test_a_canary_may_miss_by_no_more_than_these_tests_allow() -> None:
    assert CANARY_TOLERANCES["float32"] <= TOLERANCE


@every_bucket
def test_every_row_of_a_bucket_scores_as_on_a_cpu(
    served: Served, streams: Streams, bucket: Bucket
) -> None:
    rows = np.random.default_rng(1).permutation(SLOTS)[: bucket.rows]
    which = np.arange(bucket.rows) % STREAMS
    served.begin(rows)
    worst = 0.0
    for call in range(CALLS):
        ticks = slice(call * bucket.ticks, (call + 1) * bucket.ticks)
        events = slice(ticks.start * TICK, ticks.stop * TICK)
        tokens, dt_ms = streams.tokens[which, events], streams.dt_ms[which, events]
        logits = served.move(bucket, rows, tokens, dt_ms)
        worst = max(worst, deviation(logits, streams.scores[which, ticks]))
    print(f"{bucket}: misses by {worst:.1e} of the largest score")
    assert worst <= TOLERANCE


def test_every_bucket_reproduces_the_canary(served: Served) -> None:
    served.pool = check_canary(served.servable, served.calls, served.pool)


@pytest.mark.parametrize("name", ["motions"])
def test_a_released_model_reproduces_its_canary_in_every_bucket(name: str) -> None:
    """In TF32 this one would miss by 9e-4."""
    try:
        from saccade.checkpoints import released
        from saccade.server.engine.loading import load_model
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    (folder,) = (path for path in released() if path.name == name)
    servable = load_model(folder, "xla").servable
    calls, pool = compile_all(servable, SLOTS, BUCKETS, lambda _: None)
    check_canary(servable, calls, pool)


@every_bucket
def test_a_row_that_no_tick_moves_stays_bit_for_bit(
    served: Served, streams: Streams, bucket: Bucket
) -> None:
    served.begin([5, 6])
    served.move(BUCKETS[0], [5], streams.tokens[:1, :TICK], streams.dt_ms[:1, :TICK])
    before = served.export(5)
    tokens, dt_ms = streams.tokens[1:2, :TICK], streams.dt_ms[1:2, :TICK]
    served.move(bucket, [6], tokens, dt_ms)
    assert same(before, served.export(5))
    assert not same(before, served.export(6))


@every_bucket
def test_a_session_that_moves_to_another_row_scores_to_the_last_bit_as_before(
    served: Served, streams: Streams, bucket: Bucket
) -> None:
    size = bucket.ticks * TICK
    tokens, dt_ms = streams.tokens[:1], streams.dt_ms[:1]
    served.begin([3])
    served.move(bucket, [3], tokens[:, :size], dt_ms[:, :size])
    exported = served.export(3)
    served.resume(LAST, exported)
    assert same(exported, served.export(LAST))
    rest = tokens[:, size : 2 * size], dt_ms[:, size : 2 * size]
    stayed, moved = (served.move(bucket, [row], *rest) for row in (3, LAST))
    assert (stayed == moved).all()
    assert same(served.export(3), served.export(LAST))


def test_a_session_goes_on_in_another_bucket_as_if_it_had_been_one(
    served: Served, streams: Streams
) -> None:
    """Buckets round apart by float32's last bits, whichever take turns."""
    served.begin([7])
    done, scores = 0, []
    for bucket in (*BUCKETS, *reversed(BUCKETS)):
        ticks = min(bucket.ticks, MIXED_TICKS)
        events = slice(done * TICK, (done + ticks) * TICK)
        part = streams.tokens[2:3, events], streams.dt_ms[2:3, events]
        scores += list(served.move(bucket, [7], *part)[0, :ticks])
        done += ticks
        served.resume(7, served.export(7))
    assert deviation(scores, streams.scores[2, :done]) <= TOLERANCE


def same(a: list[Any], b: list[Any]) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@published
def test_published_models_score_as_the_reference_does(path: Path) -> None:
    golden = read(path, np.float32)
    tick = golden.config.tick_events
    tokens, gaps, truth = whole_rows(golden)[-1]
    tokens, gaps = tokens.astype(np.int32), gaps.astype(np.float32)
    buckets = (Bucket(1, 1), Bucket(1, 16))
    served = Served(
        golden.config, golden.variables, Canary(tokens, gaps, truth), buckets
    )
    for bucket in buckets:
        scores, size = [], bucket.ticks * tick
        served.begin([0])
        for start in range(0, len(tokens) // tick * tick, size):
            end = min(start + size, len(tokens) // tick * tick)
            part = tokens[None, start:end], gaps[None, start:end]
            scores += list(served.move(bucket, [0], *part)[0, : (end - start) // tick])
        for length, expected in prefixes(golden):
            assert deviation(scores[length // tick - 1], expected) <= TOLERANCE


def moved(config: ModelConfig, device: Any, ticks: Any) -> tuple[Any, Any]:
    """Move some sessions twice on a device; return carries and the last scores."""
    with jax.default_device(device):
        variables = jax.device_put(random_variables(config), device)
        weights = classifier.fold(config, variables)
        fresh = classifier.init_carry(config, variables, jnp.float32(50.0))
        carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(ticks)), fresh)
        advance = jax.jit(partial(inference.advance, config))
        rng = np.random.default_rng(0)
        for _ in range(2):
            size = (len(ticks), int(max(ticks)) * config.tick_events)
            tokens = rng.integers(config.num_embeddings, size=size, dtype=np.int32)
            dt_ms = rng.exponential(1.0, size).astype(np.float32)
            carry, logits = advance(weights, carry, tokens, dt_ms, ticks)
        return jax.tree.map(np.asarray, (carry, logits))


@variant
def test_every_kind_of_network_moves_as_on_a_cpu(index: int) -> None:
    ticks = np.asarray([0, 1, 3, 5, 6], np.int32)
    ours, logits = moved(VARIANTS[index], DEVICE, ticks)
    theirs, truth = moved(VARIANTS[index], CPU, ticks)
    assert deviation(logits, truth) <= STATE_TOLERANCE
    for a, b in zip(ours.ssm, theirs.ssm, strict=True):
        assert np.abs(a - b).max() <= STATE_TOLERANCE * max(np.abs(b).max(), 1.0)

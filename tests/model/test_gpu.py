"""On an accelerator sessions move as on a CPU, and score as the reference does.

The programs differ: an accelerator sums groups up at once and runs recurrences as
trees. `pytest -m gpu` runs these where JAX finds one; elsewhere they skip.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model import classifier, inference
from saccade.model.backends import fastest
from saccade.model.config import ModelConfig
from saccade.server.engine.compiled import WHOLE_SESSION, check_canary, compile_all
from saccade.server.engine.loading import compile_native
from saccade.server.engine.model_registry import Canary, Servable
from saccade.server.engine.scheduler import Bucket
from tests.model.test_golden import PUBLISHED, deviation, prefixes, read, whole_rows
from tests.model.variants import VARIANTS, random_variables

ACCELERATORS = [device for device in jax.devices() if device.platform != "cpu"]
TOLERANCE = 2e-5  # of max |logit|, float32
SESSIONS = 5
TICKS = 6

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not ACCELERATORS, reason="JAX finds no accelerator"),
]
variant = pytest.mark.parametrize("index", range(len(VARIANTS)))
published = pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def exact() -> Any:
    """Multiply in float32: the default of an accelerator may be less."""
    with jax.default_matmul_precision("highest"):
        yield


def moved(config: ModelConfig, device: Any, ticks: Any) -> tuple[Any, Any]:
    """Move some sessions twice on a device; return carries and the last scores."""
    with jax.default_device(device):
        variables = jax.device_put(random_variables(config), device)
        weights = classifier.fold(config, variables)
        fresh = classifier.init_carry(config, variables, jnp.float32(50.0))
        carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * SESSIONS), fresh)
        advance = jax.jit(partial(inference.advance, config))
        rng = np.random.default_rng(0)
        for _ in range(2):
            size = (SESSIONS, TICKS * config.tick_events)
            tokens = rng.integers(config.num_embeddings, size=size, dtype=np.int32)
            dt_ms = rng.exponential(1.0, size).astype(np.float32)
            carry, logits = advance(weights, carry, tokens, dt_ms, ticks)
        return jax.tree.map(np.asarray, (carry, logits))


@variant
def test_sessions_move_on_an_accelerator_as_they_do_on_a_cpu(index: int) -> None:
    ticks = np.asarray([0, 1, 3, 5, TICKS], np.int32)
    config = VARIANTS[index]
    ours, logits = moved(config, ACCELERATORS[0], ticks)
    theirs, truth = moved(config, jax.devices("cpu")[0], ticks)
    assert deviation(logits, truth) <= TOLERANCE
    for a, b in zip(ours.ssm, theirs.ssm, strict=True):
        assert np.abs(a - b).max() <= TOLERANCE * max(float(np.abs(b).max()), 1.0)


@published
@pytest.mark.parametrize("ticks", [1, 16])
def test_published_models_score_there_as_the_reference_does(
    path: Path, ticks: int
) -> None:
    golden = read(path, np.float32)
    config, tick = golden.config, golden.config.tick_events
    _, weights, advance, *_ = fastest(config, classifier.fold(config, golden.variables))
    fresh = classifier.init_carry(config, golden.variables)
    carry = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], fresh)
    move = jax.jit(partial(advance, config))
    tokens, gaps, _ = whole_rows(golden)[-1]
    scores, size = [], ticks * tick
    for begin in range(0, len(tokens), size):
        stream, dt_ms = np.zeros((1, size), np.int32), np.zeros((1, size), np.float32)
        part = slice(begin, begin + size)
        count = len(tokens[part]) // tick
        stream[0, : len(tokens[part])] = tokens[part]
        dt_ms[0, : len(gaps[part])] = gaps[part]
        carry, logits = move(weights, carry, stream, dt_ms, np.asarray([count]))
        scores += list(np.asarray(logits[0, :count]))
    for length, truth in prefixes(golden):
        assert deviation(scores[length // tick - 1], truth) <= 3e-5


@published
def test_every_bucket_up_to_1024_sessions_reproduces_the_canary_there(
    path: Path,
) -> None:
    golden = read(path, np.float32)
    config, tick = golden.config, golden.config.tick_events
    weights = classifier.fold(config, golden.variables)
    tokens, gaps, _ = whole_rows(golden)[-1]
    events = min(len(tokens) // tick, 4) * tick
    tokens, gaps = tokens[:events].astype(np.int32), gaps[:events].astype(np.float32)
    scan = jax.jit(partial(classifier.scan, config))
    _, chosen, advance, in_rows, prepare = fastest(config, weights)
    servable = Servable(
        name="network",
        tick_events=tick,
        classes=config.num_classes,
        weights=chosen,
        fresh=partial(classifier.init_carry, config, golden.variables),
        advance=partial(advance, config),
        canary=Canary(tokens, gaps, np.asarray(scan(golden.variables, tokens, gaps))),
        advance_rows=partial(in_rows, config) if in_rows else None,
        prepare=partial(compile_native, prepare, None) if prepare else None,
    )
    buckets = tuple(Bucket(*shape) for shape in ((1, 1), (1, 16), (64, 1), (1024, 4)))
    calls, pool = compile_all(servable, 1024, buckets, lambda _: None)
    check_canary(servable, calls, pool)
    assert np.isfinite(jax.tree.leaves(calls.fresh(WHOLE_SESSION))[0]).all()

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, strategies as st

from model.events.types import Sensor
from model.tokens import Tokenization
from model.training.batches import (
    Batch,
    Plan,
    bucket,
    evaluation_batches,
    prefetch,
    training_batches,
)
from model.training.dataset import Samples
from model.training.experiment import encoder
from tests.model.training.fixtures import make_events

TICK = 16
ENCODE = encoder(Tokenization("linear", Sensor(34, 34)), "preceding")


def make_samples(sizes: list[int]) -> Samples:
    events = [make_events(size, seed) for seed, size in enumerate(sizes)]
    return Samples(events, np.arange(len(sizes), dtype=np.int64) % 3)


def training(samples: Samples, plan: Plan, epoch: int = 1) -> list[Batch]:
    def unchanged(events, rng):  # type: ignore[no-untyped-def]
        return events

    return list(training_batches(samples, 3, plan, unchanged, ENCODE, (0, epoch)))


@given(st.integers(1, 10_000), st.integers(1, 256))
def test_a_bucket_holds_its_recording_in_a_power_of_two_of_ticks(
    size: int, tick: int
) -> None:
    length = bucket(size, tick)
    assert length >= size
    assert length % tick == 0
    assert (length // tick).bit_count() == 1
    assert length == tick or length < 2 * size + 2 * tick


@given(st.lists(st.integers(1, 200), min_size=1, max_size=12))
def test_evaluation_sees_every_event_of_every_sample_once(sizes: list[int]) -> None:
    samples = make_samples(sizes)
    seen = []
    for batch in evaluation_batches(samples, 3, 256, TICK, ENCODE):
        real = batch.weights > 0
        seen += batch.lengths[real].tolist()
        assert batch.tokens.shape == batch.dt_ms.shape
        assert set(batch.weights.tolist()) <= {0.0, 1.0}
    assert sorted(seen) == sorted(sizes)


def test_batches_have_one_shape_for_each_crop_length() -> None:
    samples = make_samples([100] * 30)
    plan = Plan([32, 64], batch_events=256, mix=0.0)
    batches = [b for epoch in range(4) for b in training(samples, plan, epoch)]
    assert {batch.tokens.shape for batch in batches} == {(8, 32), (4, 64)}
    assert len(batches) == 4 * plan.steps(30)


def test_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    samples = make_samples([100] * 9)
    plan = Plan([32, 64], batch_events=128, mix=0.5)
    first, again = training(samples, plan), training(samples, plan)
    assert all(
        np.array_equal(a, b)
        for x, y in zip(first, again, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    other = training(samples, plan, epoch=2)
    assert any(
        not np.array_equal(x.tokens, y.tokens)
        for x, y in zip(first, other, strict=True)
    )


def test_targets_of_mixed_samples_stay_distributions() -> None:
    samples = make_samples([100] * 9)
    for batch in training(samples, Plan([32], batch_events=128, mix=1.0)):
        assert batch.targets.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-6)


def test_padding_comes_after_the_events_and_takes_no_time() -> None:
    (batch,) = evaluation_batches(make_samples([20]), 3, 32, TICK, ENCODE)
    assert batch.tokens.shape == (1, 32)
    assert batch.lengths.tolist() == [20]
    assert not batch.tokens[0, 20:].any()
    assert not batch.dt_ms[0, 20:].any()


def test_the_following_timestep_scores_one_event_less() -> None:
    encode = encoder(Tokenization("linear", Sensor(34, 34)), "following")
    (batch,) = evaluation_batches(make_samples([20]), 3, 32, TICK, encode)
    assert batch.lengths.tolist() == [19]


def test_prefetching_keeps_the_order() -> None:
    assert list(prefetch(iter(range(50)), ahead=2)) == list(range(50))


def test_an_error_ahead_comes_out_where_the_items_do() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    items = prefetch(broken(), ahead=2)
    assert next(items) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)


def test_a_consumer_that_leaves_early_ends_the_thread() -> None:
    items = prefetch(itertools.count(), ahead=2)
    assert next(items) == 0
    items.close()
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]

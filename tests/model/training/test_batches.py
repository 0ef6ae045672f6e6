from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from saccade.model.events.sensor import Sensor
from saccade.model.tokens import Tokenization
from saccade.model.training.dataset import Samples
from saccade.model.training.experiment import encoder
from saccade.model.training.input_pipeline import bucket, evaluation_batches
from tests.model.training.fixtures import make_events

TICK = 16
ENCODE = encoder(Tokenization("linear", Sensor(34, 34)), "preceding")


def make_samples(sizes: list[int]) -> Samples:
    events = [make_events(size, seed) for seed, size in enumerate(sizes)]
    return Samples(events, np.arange(len(sizes), dtype=np.int64) % 3)


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

from __future__ import annotations

import multiprocessing
import threading
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events
from saccade.model.tokens import Tokenization
from saccade.model.training.augmentation import drop_events
from saccade.model.training.dataset import LazyRecordings, Samples
from saccade.model.training.errors import MalformedDataSet
from saccade.model.training.experiment import encoder
from saccade.model.training.input_pipeline import (
    Batch,
    DrawBatches,
    LoadOptions,
    bucket,
    evaluation_batches,
    padded_length,
    training_batches,
)
from saccade.model.training.schedule import BatchPosition, Plan, Schedule
from tests.model.training.fixtures import make_events

TICK = 16
ENCODE = encoder(Tokenization("linear", Sensor(34, 34)), "preceding")
THREAD = LoadOptions(processes=0, batches_ahead=2)
START = BatchPosition(0, 0)


def unchanged(events: Events, rng: np.random.Generator) -> Events:
    return events


def make_samples(sizes: list[int]) -> Samples:
    events = [make_events(size, seed) for seed, size in enumerate(sizes)]
    return Samples(events, np.arange(len(sizes), dtype=np.int64) % 3)


def make_draw(sizes: list[int], mix: float = 0.0, **options: object) -> DrawBatches:
    values = {"augment": unchanged, "samples": make_samples(sizes), **options}
    return DrawBatches(classes=3, mix=mix, encode=ENCODE, tick_events=TICK, **values)  # type: ignore[arg-type]


def make_schedule(samples: int, crop_events: list[int], epochs: int = 2) -> Schedule:
    return Schedule(Plan(crop_events, batch_events=256), samples, epochs, seed=3)


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@given(st.integers(1, 80), st.integers(1, 64), st.data())
def test_padding_is_at_most_half_and_the_rounding_to_ticks(
    ticks: int, tick_events: int, data: st.DataObject
) -> None:
    crop = ticks * tick_events
    size = data.draw(st.integers(1, crop))
    length = padded_length(size, crop, tick_events)
    assert size <= length <= crop
    assert length % tick_events == 0
    assert length < 1.5 * size + tick_events


def test_a_crop_has_few_padded_lengths() -> None:
    lengths = {padded_length(size, 4096, TICK) for size in range(1, 4097)}
    assert len(lengths) <= 2 * np.log2(4096 // TICK) + 1


def test_batches_of_whole_crops_have_one_shape_for_each_length() -> None:
    schedule = make_schedule(30, [32, 64], epochs=4)
    batches = list(training_batches(schedule, make_draw([100] * 30), START, THREAD))
    assert {batch.tokens.shape for batch in batches} == {(8, 32), (4, 64)}
    assert len(batches) == 4 * schedule.steps


def test_short_recordings_are_padded_beside_short_ones() -> None:
    sizes = [16] * 8 + [128] * 8
    schedule = make_schedule(16, [128], epochs=6)
    batches = list(training_batches(schedule, make_draw(sizes), START, THREAD))
    mixed = [batch for batch in batches if np.ptp(batch.lengths)]
    assert len(mixed) <= len(schedule) < len(batches) / 3
    assert {16, 128} == {batch.tokens.shape[1] for batch in batches}


def test_a_run_taken_up_anywhere_goes_on_with_the_same_batches() -> None:
    schedule = make_schedule(23, [32, 64])
    draw = make_draw([100] * 23, mix=0.5)
    whole = list(training_batches(schedule, draw, START, THREAD))
    for done in range(len(whole) + 1):
        first = schedule.find(*divmod(done, schedule.steps))
        left = list(training_batches(schedule, draw, first, THREAD))
        assert len(left) == len(whole) - done
        assert all(map(same, left, whole[done:]))


def test_processes_draw_what_a_thread_does() -> None:
    schedule = make_schedule(23, [32, 64])
    augment = partial(drop_events, share=0.4)
    draw = make_draw([100] * 23, mix=0.5, augment=augment)
    one = list(training_batches(schedule, draw, START, THREAD))
    many = list(training_batches(schedule, draw, START, LoadOptions(2, 4)))
    assert len(one) == len(many)
    assert all(map(same, one, many))


def test_targets_of_mixed_samples_stay_distributions() -> None:
    draw = make_draw([100] * 9, mix=1.0)
    for batch in training_batches(make_schedule(9, [32]), draw, START, THREAD):
        assert batch.targets.sum(axis=1) == pytest.approx(np.ones(8), abs=1e-6)


def broken(place: int) -> Events:
    path = Path(f"recording{place}.bin")
    raise MalformedDataSet(path, "3 bytes are no whole event")


@pytest.mark.parametrize("processes", [0, 1])
def test_a_damaged_recording_is_named_wherever_it_is_read(processes: int) -> None:
    samples = Samples(LazyRecordings(range(8), broken), np.zeros(8, np.int64))
    draw = make_draw([], samples=samples)
    batches = training_batches(
        make_schedule(8, [32]), draw, START, LoadOptions(processes, 2)
    )
    with pytest.raises(MalformedDataSet, match=r"recording\d\.bin: 3 bytes"):
        next(batches)
    batches.close()


def new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    return set(threading.enumerate()) - before


@pytest.mark.parametrize("processes", [0, 1])
def test_a_consumer_that_leaves_early_ends_the_workers(processes: int) -> None:
    before = set(threading.enumerate())
    schedule = make_schedule(100, [32], epochs=1000)
    batches = training_batches(
        schedule, make_draw([100] * 100), START, LoadOptions(processes, 8)
    )
    assert len(list(islice(batches, 3))) == 3
    batches.close()
    for worker in (*multiprocessing.active_children(), *new_threads(before)):
        worker.join(timeout=300)
    assert not multiprocessing.active_children()
    assert not new_threads(before)


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

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.training.schedule import GROUP_BATCHES, Group, Plan, Schedule

plans = st.builds(
    Plan,
    st.lists(st.sampled_from([32, 64, 128]), min_size=1, max_size=3, unique=True),
    st.sampled_from([64, 256, 512]),
)


def groups(schedule: Schedule) -> list[Group]:
    return [schedule[place] for place in range(len(schedule))]


def same(a: Group, b: Group) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def batches(group: Group) -> int:
    return group.samples.size // group.rows


@given(plans, st.integers(1, 60), st.integers(1, 3), st.integers(0, 5))
def test_every_epoch_has_the_same_number_of_batches(
    plan: Plan, samples: int, epochs: int, seed: int
) -> None:
    schedule = Schedule(plan, samples, epochs, seed)
    total = sum(batches(group) for group in groups(schedule))
    assert total == epochs * schedule.steps == epochs * plan.steps(samples)
    assert all(batches(group) <= GROUP_BATCHES for group in groups(schedule))


@given(plans, st.integers(1, 60), st.integers(0, 5))
def test_every_batch_is_found_by_its_place(plan: Plan, samples: int, seed: int) -> None:
    schedule = Schedule(plan, samples, 2, seed)
    found = [
        schedule.find(epoch, batch)
        for epoch in range(2)
        for batch in range(schedule.steps)
    ]
    there = [
        (place, number)
        for place, group in enumerate(groups(schedule))
        for number in range(batches(group))
    ]
    assert found == there


def test_a_run_whose_last_epoch_is_done_has_no_group_left() -> None:
    schedule = Schedule(Plan([32], 64), 10, 3, seed=0)
    assert schedule.find(3, 0).group == len(schedule)
    with pytest.raises(IndexError):
        schedule[len(schedule)]


def test_samples_come_once_where_all_crops_have_one_length() -> None:
    schedule = Schedule(Plan([32], 128), 48, 2, seed=0)
    half = len(schedule) // 2
    for epoch in (groups(schedule)[:half], groups(schedule)[half:]):
        drawn = np.concatenate([group.samples for group in epoch])
        assert sorted(drawn.tolist()) == list(range(48))


def test_a_group_depends_on_seed_and_place_alone() -> None:
    plan = Plan([32, 64], 256)
    one, again = Schedule(plan, 50, 3, seed=1), Schedule(plan, 50, 3, seed=1)
    backwards = [again[place] for place in reversed(range(len(again)))]
    assert all(map(same, groups(one), reversed(backwards)))
    other = Schedule(plan, 50, 3, seed=2)
    assert not all(map(same, groups(one), groups(other)))


def test_a_worker_gets_the_same_schedule() -> None:
    schedule = Schedule(Plan([32, 64], 256), 50, 3, seed=1)
    sent = pickle.loads(pickle.dumps(schedule))
    assert all(map(same, groups(schedule), groups(sent)))

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from saccade.server.engine.scheduler import Bucket, Scheduler, row_cost_for

BUCKETS = (Bucket(1, 1), Bucket(1, 4), Bucket(1, 16), Bucket(8, 1), Bucket(8, 4))


def drain(scheduler: Scheduler) -> list[list[tuple[int, int]]]:
    batches = []
    while (batch := scheduler.next_batch()) is not None:
        batches.append(list(batch.turns))
    return batches


def test_an_empty_queue_gives_no_batch() -> None:
    assert Scheduler(BUCKETS, 101).next_batch() is None


def test_a_lone_backlog_takes_the_longest_bucket() -> None:
    scheduler = Scheduler(BUCKETS, 101)
    scheduler.add(3, 40)
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.bucket == Bucket(1, 16)
    assert batch.turns == ((3, 16),)


def test_one_that_was_alone_does_not_keep_another_waiting_for_its_backlog() -> None:
    scheduler = Scheduler((Bucket(1, 4), Bucket(1, 16)), 101)
    scheduler.add(3, 100)
    for _ in range(3):
        scheduler.next_batch()
    scheduler.add(4, 20)
    turns = [turn for batch in drain(scheduler) for turn in batch]
    assert turns[:2] == [(4, 16), (3, 16)]


@pytest.mark.parametrize(("padding_cost", "calls"), [(1.0, 3), (0.0, 1)])
def test_a_call_is_longer_than_its_work_where_that_costs_nothing(
    padding_cost: float, calls: int
) -> None:
    scheduler = Scheduler(BUCKETS, 101, padding_cost=padding_cost)
    for slot in range(8):
        scheduler.add(slot, 3)
    assert len(drain(scheduler)) == calls


def test_many_single_ticks_go_side_by_side() -> None:
    scheduler = Scheduler(BUCKETS, 101)
    for slot in range(8):
        scheduler.add(slot, 1)
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.bucket == Bucket(8, 1)
    assert batch.ticks == 8
    assert scheduler.waiting == scheduler.ticks == 0


@pytest.mark.parametrize(
    ("padding_cost", "bucket"), [(1.0, Bucket(8, 4)), (0.0, Bucket(64, 4))]
)
def test_a_call_is_as_large_as_its_work_where_padding_costs_nothing(
    padding_cost: float, bucket: Bucket
) -> None:
    scheduler = Scheduler([*BUCKETS, Bucket(64, 4)], 101, padding_cost=padding_cost)
    for slot in range(20):
        scheduler.add(slot, 5)
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.bucket == bucket


def test_a_dropped_slot_is_not_served() -> None:
    scheduler = Scheduler(BUCKETS, 101)
    scheduler.add(1, 2)
    scheduler.add(2, 2)
    scheduler.drop(1)
    scheduler.drop(5)
    assert {slot for turns in drain(scheduler) for slot, _ in turns} == {2}
    assert scheduler.ticks == 0


def test_a_scheduler_without_a_real_bucket_is_refused() -> None:
    for buckets in [(), (Bucket(0, 1),)]:
        with pytest.raises(ValueError, match="at least one row"):
            Scheduler(buckets, 101)


def test_a_flooding_sensor_starves_none_of_a_hundred_slow_ones() -> None:
    scheduler = Scheduler(BUCKETS, 101)
    scheduler.add(0, 10_000)
    for slot in range(1, 101):
        scheduler.add(slot, 1)
    served: set[int] = set()
    for _ in range(100):
        scheduler.add(0, 16)
        batch = scheduler.next_batch()
        assert batch is not None
        served |= {slot for slot, _ in batch.turns}
        if served >= set(range(101)):
            break
    assert served >= set(range(101))


SHAPES = st.lists(
    st.builds(Bucket, st.integers(1, 8), st.integers(1, 16)), min_size=1, max_size=5
)
QUIET = st.lists(st.sets(st.integers(1, 100), max_size=20), min_size=1, max_size=40)


@given(SHAPES, QUIET, st.integers(1, 200), st.sampled_from([0.0, 1.0]))
def test_a_slow_sensor_waits_for_one_turn_of_a_flood_at_most(
    buckets: list[Bucket], arrivals: list[set[int]], flood: int, padding_cost: float
) -> None:
    """Sensor 0 is ten thousand times as fast as each of up to a hundred others."""
    scheduler = Scheduler(buckets, 101, padding_cost=padding_cost)
    waited: dict[int, int] = {}  # ticks of the flood served while this one waited
    for arriving in [*arrivals, *[set[int]()] * 101]:
        scheduler.add(0, flood)
        for slot in sorted(arriving - waited.keys()):
            scheduler.add(slot, 1)
            waited[slot] = 0
        alone = not waited
        batch = scheduler.next_batch()
        assert batch is not None, "the flood always waits: no turn is lost"
        served = dict(batch.turns)
        for slot in served.keys() - {0}:
            assert waited.pop(slot) <= max(bucket.ticks for bucket in buckets)
        for slot in waited:
            waited[slot] += served.get(0, 0)
        assert 0 in served or not alone, "and gets all that the others leave"
    assert not waited


ARRIVALS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 30)), max_size=60)


@given(ARRIVALS)
def test_every_tick_is_served_exactly_once(arrivals: list[tuple[int, int]]) -> None:
    scheduler = Scheduler(BUCKETS, 101)
    owed: dict[int, int] = {}
    for slot, ticks in arrivals:
        scheduler.add(slot, ticks)
        owed[slot] = owed.get(slot, 0) + ticks
    assert scheduler.ticks == sum(owed.values())
    for turns in drain(scheduler):
        assert len({slot for slot, _ in turns}) == len(turns)
        for slot, ticks in turns:
            assert ticks > 0
            owed[slot] -= ticks
    assert not any(owed.values())


@given(st.lists(ARRIVALS, max_size=20))
def test_while_one_slot_waits_no_other_has_more_than_four_long_turns(
    rounds: list[list[tuple[int, int]]],
) -> None:
    scheduler = Scheduler(BUCKETS, 101)
    most = 4 * max(bucket.ticks for bucket in BUCKETS)
    overtaken: dict[int, dict[int, int]] = {}  # ticks of others while this one waited
    for arrivals in [*rounds, *[[(0, 100), (1, 1)]] * 40]:
        for slot, ticks in arrivals:
            scheduler.add(slot, ticks)
            overtaken.setdefault(slot, {})
        batch = scheduler.next_batch()
        served = dict(batch.turns) if batch else {}
        for slot in served:
            del overtaken[slot]
        for others in overtaken.values():
            for slot, ticks in served.items():
                others[slot] = others.get(slot, 0) + ticks
                assert others[slot] <= most
        for slot in served:
            if scheduler.ticks_of(slot):
                overtaken[slot] = {}


@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 30))
def test_a_sensor_within_its_share_goes_first_whatever_others_ask_for(
    floods: int, ticks: int, more: int
) -> None:
    scheduler = Scheduler((Bucket(1, 4), Bucket(2, 4)), 101)
    for slot in range(1, floods + 1):
        scheduler.add(slot, 10_000)
    for _ in range(floods):
        scheduler.next_batch()
    for _ in range(30):
        served = 0
        while served < ticks * (floods + 1) + more:
            batch = scheduler.next_batch()
            assert batch is not None
            served += batch.ticks
        scheduler.add(0, ticks)
        batch = scheduler.next_batch()
        assert batch is not None
        assert batch.turns[0] == (0, ticks)


@given(st.integers(2, 20))
def test_those_who_ask_for_more_than_there_is_get_equally_much(floods: int) -> None:
    scheduler = Scheduler(BUCKETS, 101)
    had = dict.fromkeys(range(floods), 0)
    for slot in had:
        scheduler.add(slot, 10_000 + slot)
    for _ in range(100):
        batch = scheduler.next_batch()
        assert batch is not None
        for slot, ticks in batch.turns:
            had[slot] += ticks
    longest = max(bucket.ticks for bucket in BUCKETS)
    assert max(had.values()) - min(had.values()) <= 2 * longest


@given(ARRIVALS.filter(bool))
def test_a_batch_fits_its_bucket_and_is_never_empty(
    arrivals: list[tuple[int, int]],
) -> None:
    scheduler = Scheduler(BUCKETS, 101)
    for slot, ticks in arrivals:
        scheduler.add(slot, ticks)
    while (batch := scheduler.next_batch()) is not None:
        assert 1 <= len(batch.turns) <= batch.bucket.rows
        assert all(1 <= ticks <= batch.bucket.ticks for _, ticks in batch.turns)


LONG = (Bucket(1, 1), Bucket(1, 16), Bucket(1, 64), Bucket(8, 16))


def flooded(**costs: float) -> Scheduler:
    """Twenty slots that always wait, and have all been served."""
    scheduler = Scheduler(LONG, 101, padding_cost=0.0, **costs)
    for slot in range(1, 21):
        scheduler.add(slot, 10_000)
    for _ in range(30):
        scheduler.next_batch()
    return scheduler


@given(st.integers(1, 60), st.sampled_from([0.0, 6.0]))
def test_who_asks_for_little_has_a_call_of_its_own_before_a_long_one(
    ticks: int, row_cost: float
) -> None:
    scheduler = flooded(row_cost=row_cost)
    scheduler.add(0, ticks)
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.turns == ((0, ticks),)
    assert all(slot for turns in drain(scheduler)[:5] for slot, _ in turns)


def test_where_a_launch_costs_much_all_go_together() -> None:
    scheduler = flooded(launch_cost=256.0)
    scheduler.add(0, 9)
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.turns[0] == (0, 9)
    assert len(batch.turns) == 8


def test_equals_that_come_now_and_then_go_together() -> None:
    scheduler = Scheduler(LONG, 101, padding_cost=0.0)
    for _ in range(50):
        for slot in range(8):
            scheduler.add(slot, 12)
        (batch,) = drain(scheduler)
        assert len(batch) == 8


def test_one_that_was_alone_does_not_wait_for_new_ones_to_catch_up() -> None:
    scheduler = Scheduler(LONG, 101, padding_cost=0.0)
    for _ in range(50):
        scheduler.add(0, 9)
        scheduler.next_batch()
    for slot in range(1, 21):
        scheduler.add(slot, 2)
    drain(scheduler)
    for slot in range(1, 21):
        scheduler.add(slot, 100)
    scheduler.next_batch()
    scheduler.add(0, 9)
    served = [slot for _ in range(5) for slot, _ in scheduler.next_batch().turns]  # type: ignore[union-attr]
    assert 0 in served


@pytest.mark.parametrize(
    ("row_cost", "bucket"), [(0.0, Bucket(8, 16)), (6.0, Bucket(1, 64))]
)
def test_a_row_that_costs_a_host_much_is_a_long_one(
    row_cost: float, bucket: Bucket
) -> None:
    scheduler = Scheduler(LONG, 101, padding_cost=0.0, row_cost=row_cost)
    for slot in range(20):
        scheduler.add(slot, 100)
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.bucket == bucket


def test_a_row_costs_something_where_calls_and_event_loop_share_few_cores() -> None:
    assert row_cost_for("cpu", 2, 64) == 6.0
    assert row_cost_for("cpu", 2, 256) == 1.5
    assert row_cost_for("cpu", 3, 64) == row_cost_for("gpu", 2, 64) == 0.0

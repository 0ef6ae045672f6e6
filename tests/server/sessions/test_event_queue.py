from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from saccade.server.sessions.session_input import DropLog, EventQueue, Gap, QueueLimits
from tests.toy import TOKENIZATION, some_events

FRAMES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=30)


def test_events_leave_in_their_order_however_they_are_cut() -> None:
    events, queue = some_events(20), EventQueue(QueueLimits())
    for start in range(0, 20, 5):
        queue.append(TOKENIZATION.timed(events[start : start + 5]), 40)
    taken = [queue.take(count) for count in (3, 0, 9, 1, 99)]
    assert [len(part.tokens) for part in taken] == [3, 0, 9, 1, 7]
    for column, parts in zip(
        TOKENIZATION.timed(events), zip(*taken, strict=True), strict=True
    ):
        assert np.array_equal(np.concatenate(parts), column)
    assert (len(queue), queue.bytes) == (0, 0)


def test_the_oldest_make_room_and_no_more_than_must() -> None:
    events, queue = some_events(12), EventQueue(QueueLimits(events=8))
    queue.append(TOKENIZATION.timed(events), 96)
    assert queue.excess == queue.drop(queue.excess) == 4
    assert queue.excess == 0
    assert np.array_equal(queue.copy().t_us, events["t"][4:])


def test_what_is_left_of_a_frame_counts_with_its_share_of_the_bytes() -> None:
    queue = EventQueue(QueueLimits(bytes=80))
    queue.append(TOKENIZATION.timed(some_events(4)), 60)
    queue.append(TOKENIZATION.timed(some_events(4)), 60)
    queue.take(1)
    assert queue.bytes == 105
    assert queue.excess == queue.drop(queue.excess) == 2
    assert (len(queue), queue.bytes) == (5, 75)


@given(FRAMES, st.integers(1, 30), st.integers(100, 300), st.integers(1, 4))
def test_both_bounds_hold_exactly_and_whole_multiples_go(
    frames: list[tuple[int, int]], most: int, size: int, multiple: int
) -> None:
    queue, came, dropped = EventQueue(QueueLimits(events=most, bytes=size)), 0, 0
    for count, weight in frames:
        queue.append(TOKENIZATION.timed(some_events(count)), weight)
        came += count
        gone = queue.drop(-(-queue.excess // multiple) * multiple)
        dropped += gone
        assert len(queue) + dropped == came
        assert len(queue) <= most
        assert queue.bytes <= size
        assert gone % multiple == 0 or len(queue) == 0


def test_a_gap_lies_behind_the_scores_once_the_tick_after_it_is_scored() -> None:
    log = DropLog()
    log.add(3, 10)
    log.add(3, 5)
    log.add(4, 1)
    assert log.ahead == (Gap(3, 15), Gap(4, 1))
    assert [log.waiting(ticks) for ticks in (2, 3, 4)] == [16, 1, 0]
    log.advance(3)
    assert (log.behind, log.events) == (0, 16)
    log.advance(4)
    assert (log.behind, log.events) == (15, 16)

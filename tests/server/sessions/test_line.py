from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from saccade.server.sessions.session_input import DropLog, EventQueue, Gap, QueueLimits
from tests.toy import some_events

FRAMES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=30)


def test_events_leave_in_their_order_however_they_are_cut() -> None:
    events, line = some_events(20), EventQueue(QueueLimits())
    for start in range(0, 20, 5):
        line.append(events[start : start + 5], 40)
    taken = [line.take(count) for count in (3, 0, 9, 1, 99)]
    assert [len(part) for part in taken] == [3, 0, 9, 1, 7]
    assert np.array_equal(np.concatenate(taken), events)
    assert (len(line), line.bytes) == (0, 0)


def test_the_oldest_make_room_and_no_more_than_must() -> None:
    events, line = some_events(12), EventQueue(QueueLimits(events=8))
    line.append(events, 96)
    assert line.shrink(1) == 4
    assert line.shrink(1) == 0
    assert np.array_equal(line.copy(), events[4:])


def test_what_is_left_of_a_frame_counts_with_its_share_of_the_bytes() -> None:
    line = EventQueue(QueueLimits(bytes=80))
    line.append(some_events(4), 60)
    line.append(some_events(4), 60)
    line.take(1)
    assert line.bytes == 105
    assert line.shrink(1) == 2
    assert (len(line), line.bytes) == (5, 75)


@given(FRAMES, st.integers(1, 30), st.integers(100, 300), st.integers(1, 4))
def test_both_bounds_hold_exactly_and_whole_multiples_go(
    frames: list[tuple[int, int]], most: int, size: int, multiple: int
) -> None:
    line, came, dropped = EventQueue(QueueLimits(events=most, bytes=size)), 0, 0
    for count, weight in frames:
        line.append(some_events(count), weight)
        came += count
        gone = line.shrink(multiple)
        dropped += gone
        assert len(line) + dropped == came
        assert len(line) <= most
        assert line.bytes <= size
        assert gone % multiple == 0 or len(line) == 0


def test_a_gap_lies_behind_the_scores_once_the_tick_after_it_is_scored() -> None:
    gaps = DropLog()
    gaps.add(3, 10)
    gaps.add(3, 5)
    gaps.add(4, 1)
    assert gaps.ahead == (Gap(3, 15), Gap(4, 1))
    assert [gaps.waiting(ticks) for ticks in (2, 3, 4)] == [16, 1, 0]
    gaps.advance(3)
    assert (gaps.behind, gaps.events) == (0, 16)
    gaps.advance(4)
    assert (gaps.behind, gaps.events) == (15, 16)

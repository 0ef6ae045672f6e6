from __future__ import annotations

import asyncio
import math
import threading

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.clients.pacing import Pacer, by_events, by_time, limited, play
from tests.clients.scripted import FakeTime, moving


async def played(frames, speed):
    time = FakeTime()
    times_s = [time.now_s - 100 async for _ in play(iter(frames), speed, time.clock())]
    return times_s, time.slept


async def test_a_frame_is_sent_when_its_last_event_has_happened():
    frames = [moving(11, start_us=0, step_us=1000), moving(11, 20_000, 1000)]
    times_s, _ = await played(frames, speed=1)
    assert times_s == pytest.approx([0.010, 0.030])


async def test_double_speed_takes_half_the_time():
    frames = [moving(2, start_us=EPOCH_US + t, step_us=0) for t in (0, 10**6)]
    times_s, _ = await played(frames, speed=2)
    assert times_s == pytest.approx([0, 0.5])


async def test_full_speed_never_sleeps():
    frames = [moving(2, start_us=t) for t in (0, 10**6, 10**9)]
    _, slept = await played(frames, speed=math.inf)
    assert slept == []


EPOCH_US = 1_700_000_000_000_000


def test_a_late_player_does_not_wait_until_it_has_caught_up():
    pacer = Pacer(1)
    assert pacer.wait_s(0, now_s=0) == 0
    assert pacer.wait_s(1_000_000, now_s=3.0) == 0
    assert pacer.wait_s(4_000_000, now_s=3.0) == pytest.approx(1)


@pytest.mark.parametrize("speed", [0, -1, math.nan])
def test_a_speed_is_above_zero(speed):
    with pytest.raises(ValueError, match="greater than zero"):
        Pacer(speed)


async def test_playing_leaves_the_event_loop_free_while_a_frame_is_made():
    free = threading.Event()

    def slow():
        assert free.wait(60)
        yield moving(1)

    asyncio.get_running_loop().call_later(0.01, free.set)
    assert len([frame async for frame in play(slow(), math.inf)]) == 1


sizes = st.lists(st.integers(0, 30), max_size=8)


def cut(count, sizes):
    events = moving(count, step_us=700)
    borders = np.cumsum(sizes)
    return events, np.split(events, borders[borders <= count])


@given(count=st.integers(0, 100), sizes=sizes, frame=st.integers(1, 25))
def test_frames_by_count_are_equal_but_for_the_last(count, sizes, frame):
    events, chunks = cut(count, sizes)
    frames = list(by_events(chunks, frame))
    assert all(len(piece) == frame for piece in frames[:-1])
    assert all(1 <= len(piece) <= frame for piece in frames)
    assert np.array_equal(np.concatenate([events[:0], *frames]), events)


@given(count=st.integers(0, 100), sizes=sizes, frame_us=st.integers(1, 20_000))
def test_frames_by_time_do_not_depend_on_how_the_chunks_were_cut(
    count, sizes, frame_us
):
    events, chunks = cut(count, sizes)
    frames = list(by_time(chunks, frame_us))
    whole = list(by_time([events], frame_us))
    assert [len(piece) for piece in frames] == [len(piece) for piece in whole]
    assert np.array_equal(np.concatenate([events[:0], *frames]), events)
    for piece in frames:
        assert len(set((piece["t"] - events["t"][0]) // frame_us)) == 1


@given(
    count=st.integers(1, 100), frame_us=st.integers(700, 20_000), most=st.integers(1, 9)
)
def test_frames_by_time_may_be_limited_in_events_too(count, frame_us, most):
    events = moving(count, step_us=700)
    frames = list(limited(by_time([events], frame_us), most))
    assert np.array_equal(np.concatenate(frames), events)
    for piece in frames:
        assert 1 <= len(piece) <= most
        assert piece["t"][-1] - piece["t"][0] < frame_us

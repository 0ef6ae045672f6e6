from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.clients.frames import Framer, largest_frame, split
from saccade.model.events.encodings.packed import unpack
from saccade.model.events.errors import UnsortedEvents
from tests.clients.scripted import moving

EPOCH_US = 1_700_000_000_000_000


@given(count=st.integers(0, 50), largest=st.integers(1, 20))
def test_frames_hold_every_event_in_order_and_none_is_too_large(count, largest):
    events = moving(count)
    pieces = list(split(events, largest))
    assert all(1 <= len(piece) <= largest for piece in pieces)
    assert np.array_equal(np.concatenate([events[:0], *pieces]), events)


def test_a_frame_ends_before_a_gap_that_32_bits_cannot_span():
    events = moving(3)
    events["t"] = [0, 2**32 - 1, 2**32]
    assert [len(piece) for piece in split(events, 10)] == [2, 1]


def test_unsorted_events_are_cut_by_their_span_too():
    events = moving(3)
    events["t"] = [2**33, 0, 2**33]
    assert [len(piece) for piece in split(events, 10)] == [1, 1, 1]


def test_a_session_counts_time_as_its_caller_does():
    framer = Framer(largest=4)
    first, second = framer.frames(moving(8, start_us=EPOCH_US))
    assert (first.t_base_us, second.t_base_us) == (EPOCH_US, EPOCH_US + 40)
    decoded = unpack(second.data, second.t_base_us)
    assert (decoded["t"] - EPOCH_US).tolist() == [40, 50, 60, 70]
    assert framer.shift_us == 0


def test_a_clock_that_begins_before_zero_is_sent_from_its_first_event_on():
    framer = Framer(largest=100)
    list(framer.frames(moving(2, start_us=-500)))
    (payload,) = framer.frames(moving(2, start_us=1_000))
    assert (payload.t_base_us, framer.shift_us) == (1_500, -500)


def test_a_reset_starts_the_clock_anew():
    framer = Framer(largest=100)
    list(framer.frames(moving(2, start_us=EPOCH_US)))
    framer.restart()
    (payload,) = framer.frames(moving(2, start_us=7))
    assert (payload.t_base_us, framer.start_us) == (7, 7)


def test_an_event_that_the_wire_s_clock_cannot_reach_is_named():
    framer = Framer(largest=100)
    list(framer.frames(moving(2, start_us=1000)))
    events = moving(3, start_us=2000)
    events["t"][1] = -1
    with pytest.raises(UnsortedEvents) as refused:
        list(framer.frames(events))
    assert (refused.value.index, refused.value.t_us) == (1, -1)


def test_disorder_is_left_to_the_server():
    events = moving(3, start_us=100)
    events["t"] = [100, 300, 200]
    framer = Framer(largest=10)
    (payload,) = framer.frames(events)
    assert unpack(payload.data, payload.t_base_us)["t"].tolist() == [100, 300, 200]


def test_nothing_to_send_makes_no_frame_and_starts_no_clock():
    framer = Framer(largest=10)
    assert list(framer.frames(moving(0))) == []
    assert framer.start_us is None


def test_a_frame_leaves_room_in_the_window_and_in_the_message():
    assert largest_frame(1000, 10**6, 10**6) == 250
    assert largest_frame(10**6, 8000, 10**6) == 250
    assert largest_frame(10**6, 10**7, 928) == 100
    assert largest_frame(1, 8, 64) == 1


def test_a_camera_s_clock_that_wraps_counts_on():
    framer = Framer(largest=4, clock_bits=24)
    events = moving(6)
    events["t"] = [2**24 - 2, 1, 5, 9, 9, 3_000_000]
    before = events["t"].tolist()
    payloads = [*framer.frames(events[:3]), *framer.frames(events[3:])]
    times = [t for p in payloads for t in unpack(p.data, p.t_base_us)["t"].tolist()]
    assert [t - (2**24 - 2) for t in times] == [0, 3, 7, 11, 11, 3_000_002]
    assert events["t"].tolist() == before

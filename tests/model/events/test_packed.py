"""The packed encoding: events survive it, or the one that does not fit is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.encodings.packed import pack, unpack
from saccade.model.events.errors import EventNotPackable, MalformedPayload
from saccade.model.events.types import EVENT_DTYPE

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**16 - 1),
        st.integers(0, 2**15 - 1),
        st.integers(0, 1),
    ),
    max_size=50,
)
BASES = st.integers(-(2**62), 2**62)


def events_of(rows, t_base_us=0):
    shifted = [(t + t_base_us, x, y, p) for t, x, y, p in rows]
    return np.array(shifted, EVENT_DTYPE)


@given(ROWS, BASES)
def test_what_is_packed_is_unpacked(rows, t_base_us):
    events = events_of(rows, t_base_us)
    assert np.array_equal(unpack(pack(events, t_base_us), t_base_us), events)


@given(st.binary(max_size=400).map(lambda data: data[: len(data) // 8 * 8]))
def test_what_is_unpacked_is_packed_again(data):
    assert pack(unpack(data, 0), 0) == data


def test_a_record_is_two_little_endian_words():
    events = events_of([(0x01020304, 0x0506, 0x0708, 1)])
    assert pack(events, 0) == bytes.fromhex("04030201 06050887")
    assert pack(events, 0x01020300) == bytes.fromhex("04000000 06050887")


def test_no_events_are_no_bytes():
    assert pack(np.empty(0, EVENT_DTYPE), 5) == b""
    assert unpack(b"", 5).size == 0


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_any_buffer_is_unpacked_into_events_of_their_own(buffer):
    events = unpack(buffer(bytes(8)), 7)
    events["x"] = 3
    assert events.tolist() == [(7, 3, 0, 0)]


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        ((-1, 0, 0, 0), "t_offset_us", -1),
        ((2**32, 0, 0, 0), "t_offset_us", 2**32),
        ((0, 0, 2**15, 0), "y", 2**15),
        ((0, 0, 0, 2), "p", 2),
    ],
)
def test_an_event_that_does_not_fit_is_named(row, field, value):
    with pytest.raises(EventNotPackable) as caught:
        pack(events_of([(0, 1, 1, 1), row]), 0)
    error = caught.value
    assert (error.index, error.field, error.value) == (1, field, value)
    assert f"event 1 has {field} = {value}" in str(error)


def test_half_a_record_is_malformed():
    with pytest.raises(MalformedPayload, match="12 bytes are not a multiple of 8"):
        unpack(bytes(12), 0)


@pytest.mark.parametrize("t_base_us", [2**63, -(2**63) - 1, 2**63 - 2**32 + 1])
def test_a_base_near_the_end_of_time_is_malformed(t_base_us):
    with pytest.raises(MalformedPayload, match="overflows"):
        unpack(bytes(8), t_base_us)

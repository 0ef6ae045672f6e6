from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.encodings.packed import unpack
from saccade.server.protocol.codec import decode_client
from saccade.server.protocol.errors import InvalidField
from saccade.server.protocol.messages import EventsFrame


def listed(rows, **more) -> str:
    return json.dumps({"type": "events", "seq": 1, "events": rows, **more})


rows_of_events = st.integers(0, 2**61).flatmap(
    lambda start: st.lists(
        st.tuples(
            st.integers(start, start + 2**32 - 1),
            st.integers(0, 65535),
            st.integers(0, 32767),
            st.integers(0, 1),
        ).map(list),
        max_size=20,
    )
)


@given(rows_of_events, st.integers(0, 2**61))
def test_a_list_of_events_becomes_the_packed_form(rows, t_base_us):
    frame = decode_client(listed(rows, t_base_us=t_base_us))
    events = unpack(frame.data, frame.t_base_us)
    wanted = [(t + t_base_us, x, y, p) for t, x, y, p in rows]
    assert events.tolist() == wanted


@given(rows_of_events, st.sampled_from([2**62 - 2**32, 2**62 - 1, 2**62]))
def test_a_list_may_begin_as_late_as_packed_records_may(rows, t_base_us):
    rows = [[t % 2**32, x, y, p] for t, x, y, p in rows]
    frame = decode_client(listed(rows, t_base_us=t_base_us))
    assert frame.t_base_us == t_base_us
    events = unpack(frame.data, frame.t_base_us)
    assert events["t"].tolist() == [row[0] + t_base_us for row in rows]


def test_an_event_beyond_any_time_is_named_with_the_value_sent():
    with pytest.raises(InvalidField) as caught:
        decode_client(listed([[2**32 + 9, 1, 2, 1], [2**32, 1, 2, 1]], t_base_us=2**62))
    assert (caught.value.field, caught.value.value) == ("events[1].t", 2**32)


def test_an_empty_list_is_an_empty_frame():
    assert decode_client(listed([])) == EventsFrame(1, b"")


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("[[0,1,2,1]]", "events"),
        ({"t": 0}, "events"),
        ([[0, 1, 2, 1], 5], "events[1]"),
        ([[0, 1, 2, 1], [1, 1, 2]], "events[1]"),
        ([[0, 1, 2, 1], [1, 1, 2, 1, 0]], "events[1]"),
        ([[0, 1, 2, 1], [float("nan"), 1, 2, 1]], "events[1].t"),
        ([[0, float("inf"), 2, 1]], "events[0].x"),
        ([[0.5, 1, 2, 1]], "events[0].t"),
        ([[0, 1, 2, True]], "events[0].p"),
        ([[0, 1, 2, None]], "events[0].p"),
        ([[-1, 1, 2, 1]], "events[0].t"),
        ([[2**62, 1, 2, 1]], "events[0].t"),
        ([[2**70, 1, 2, 1]], "events[0].t"),
        ([[0, 65536, 2, 1]], "events[0].x"),
        ([[0, 1, 32768, 1]], "events[0].y"),
        ([[0, 1, 2, 2]], "events[0].p"),
        ([[7, 1, 2, 1], [2**32 + 7, 1, 2, 1]], "events[1].t"),
    ],
)
def test_a_bad_event_in_a_list_is_named_and_refuses_the_frame(rows, named):
    with pytest.raises(InvalidField) as caught:
        decode_client(listed(rows))
    assert caught.value.field == named
    assert caught.value.seq == 1
    assert caught.value.size == (8 * len(rows) if isinstance(rows, list) else 0)


def test_data_is_strict_base64():
    frame = '{{"type":"events","seq":1,"data":{}}}'
    assert decode_client(frame.format('"AAECAwQFBgc="')).data == bytes(range(8))
    for bad in ('"AAEC*"', '"AAE"', '" AAECAwQFBgc="', '"\\u00e4"', "5", "null"):
        with pytest.raises(InvalidField) as caught:
            decode_client(frame.format(bad))
        assert caught.value.field == "data"


def test_a_list_and_data_do_not_go_together():
    with pytest.raises(InvalidField) as caught:
        decode_client(listed([[0, 1, 2, 1]], data=""))
    assert caught.value.field == "data"


@pytest.mark.parametrize("encoding", ["evt2", "evt21", "evt3"])
def test_a_list_stands_for_packed_records_only(encoding):
    with pytest.raises(InvalidField, match=f"opened with {encoding}"):
        decode_client(listed([[0, 1, 2, 1]]), encoding=encoding)


def test_ten_thousand_listed_events_keep_their_order():
    rows = [[i, i % 640, i % 480, i % 2] for i in range(10_000)]
    frame = decode_client(listed(rows))
    events = unpack(frame.data, frame.t_base_us)
    assert np.array_equal(events["x"], np.arange(10_000) % 640)

"""The incremental decoders of EVT2 and EVT3."""

from __future__ import annotations

import sqlite3
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.encodings.evt import STEP_BACK_US, Evt2Decoder, Evt3Decoder
from saccade.model.events.errors import MalformedPayload, UnsortedEvents
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, check

EVT3_EVENT_WORDS = (0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8, 0xA, 0xE)


def evt2(*words):
    return np.array(words, "<u4").tobytes()


def evt2_high(high):
    return 0x8 << 28 | high


def evt2_event(low, x, y, p):
    return p << 28 | low << 22 | x << 11 | y


def evt3(*words):
    return np.array(words, "<u2").tobytes()


def evt3_time(t_us):
    return 0x8 << 12 | t_us >> 12 & 0xFFF, 0x6 << 12 | t_us & 0xFFF


def evt3_high(high):
    return 0x8 << 12 | high


def evt3_event(x, p=1):
    return 0x2 << 12 | p << 11 | x


EVT2_WORDS = st.lists(
    st.one_of(
        st.builds(evt2_high, st.integers(0, 2**28 - 1)),
        st.builds(
            evt2_event,
            st.integers(0, 63),
            st.integers(0, 2047),
            st.integers(0, 2047),
            st.integers(0, 1),
        ),
        st.integers(0, 2**32 - 1),
    ),
    max_size=40,
)
EVT3_WORDS = st.lists(
    st.builds(
        lambda kind, rest: kind << 12 | rest,
        st.sampled_from(EVT3_EVENT_WORDS),
        st.integers(0, 0xFFF),
    ),
    max_size=60,
)
CUTS = st.lists(st.integers(0, 60), max_size=4).map(sorted)


def decode_in_parts(decoder, data, cuts, word_bytes):
    places = [0, *(min(cut * word_bytes, len(data)) for cut in cuts), len(data)]
    parts = [decoder.decode(data[begin:end]) for begin, end in pairwise(places)]
    return np.concatenate(parts)


class TestEvt2:
    def test_an_event_takes_its_high_time_from_the_word_before(self):
        data = evt2(
            evt2_high(1),
            evt2_event(5, 639, 479, 1),
            evt2_event(6, 1, 2, 0),
            evt2_high(2),
            evt2_event(0, 3, 4, 1),
        )
        assert Evt2Decoder().decode(data).tolist() == [
            (69, 639, 479, 1),
            (70, 1, 2, 0),
            (128, 3, 4, 1),
        ]

    def test_triggers_and_other_words_are_skipped(self):
        data = evt2(evt2_high(0), 0xA << 28 | 7, 0xE << 28, 0xF << 28, 0x5 << 28)
        assert Evt2Decoder().decode(data).size == 0

    def test_a_trigger_has_its_own_low_time(self):
        decoder = Evt2Decoder()
        decoder.triggers = []
        decoder.decode(evt2(0xA << 28, evt2_high(1), 0xA << 28 | 5 << 22 | 2 << 8 | 1))
        assert decoder.triggers == [(69, 2, True)]

    def test_events_before_the_first_time_are_dropped(self):
        data = evt2(evt2_event(5, 1, 1, 1), evt2_high(1), evt2_event(5, 2, 2, 1))
        assert Evt2Decoder().decode(data).tolist() == [(69, 2, 2, 1)]

    def test_the_wraps_of_the_clock_are_undone(self):
        decoder = Evt2Decoder()
        first = decoder.decode(evt2(evt2_high(2**28 - 1), evt2_event(63, 0, 0, 0)))
        then = decoder.decode(evt2(evt2_high(0), evt2_event(0, 0, 0, 0)))
        assert first["t"].tolist() == [2**34 - 1]
        assert then["t"].tolist() == [2**34]

    @given(EVT2_WORDS, CUTS)
    def test_the_cuts_do_not_matter(self, words, cuts):
        data = evt2(*words)
        whole = Evt2Decoder().decode(data)
        assert np.array_equal(decode_in_parts(Evt2Decoder(), data, cuts, 4), whole)

    @pytest.mark.parametrize("size", [1, 2, 3, 5])
    def test_a_cut_word_is_malformed_and_changes_nothing(self, size):
        decoder = Evt2Decoder()
        decoder.decode(evt2(evt2_high(3)))
        with pytest.raises(MalformedPayload, match=f"evt2 payload: {size} bytes"):
            decoder.decode(bytes(size))
        assert decoder.decode(evt2(evt2_event(1, 0, 0, 0)))["t"].tolist() == [193]


class TestEvt3:
    def test_an_event_takes_its_row_and_time_from_the_words_before(self):
        decoder = Evt3Decoder()
        assert decoder.decode(evt3(*evt3_time(0x123456), 0x0 << 12 | 7)).size == 0
        assert decoder.decode(evt3(evt3_event(9))).tolist() == [(0x123456, 9, 7, 1)]

    def test_a_vector_is_an_event_for_each_bit(self):
        data = evt3(*evt3_time(0), 7, 0x3 << 12 | 1 << 11 | 20, 0x4 << 12 | 0b101)
        assert Evt3Decoder().decode(data).tolist() == [(0, 20, 7, 1), (0, 22, 7, 1)]

    def test_the_wraps_of_the_clock_are_undone(self):
        decoder = Evt3Decoder()
        decoder.decode(evt3(*evt3_time(2**24 - 1), 0, evt3_event(1)))
        events = decoder.decode(evt3(*evt3_time(0), evt3_event(1)))
        assert events["t"].tolist() == [2**24]

    def test_a_time_low_that_steps_back_is_raised_to_the_newest_time(self):
        data = evt3(
            *evt3_time(4096 + 100),
            0,
            evt3_event(1),
            evt3_time(95)[1],
            evt3_event(2),
            evt3_time(101)[1],
            evt3_event(3),
        )
        events = Evt3Decoder().decode(data)
        assert (events["t"] - 4096).tolist() == [100, 100, 101]

    def test_a_larger_step_back_is_kept_for_the_check_to_refuse(self):
        late, early = 10 * STEP_BACK_US, 8 * STEP_BACK_US
        events = Evt3Decoder().decode(
            evt3(*evt3_time(late), 0, evt3_event(1), *evt3_time(early), evt3_event(2))
        )
        assert events["t"].tolist() == [late, early]
        with pytest.raises(UnsortedEvents):
            check(events, Sensor(640, 480), None)

    @pytest.mark.parametrize(
        ("before", "after", "apart"),
        [(4000, 100, 196), (3000, 500, 1596), (4095, 0, 1), (100, 3000, 2900)],
    )
    def test_time_goes_on_where_words_were_lost(self, before, after, apart):
        data = evt3(
            *evt3_time(before << 12), 0, evt3_event(1), evt3_high(after), evt3_event(2)
        )
        t_us = Evt3Decoder().decode(data)["t"]
        assert t_us[1] - t_us[0] == apart << 12

    @pytest.mark.parametrize(("before", "after"), [(3000, 2500), (0, 4095), (5, 4090)])
    def test_a_time_high_that_steps_back_a_little_is_no_wrap(self, before, after):
        data = evt3(
            *evt3_time(before << 12), 0, evt3_event(1), evt3_high(after), evt3_event(2)
        )
        t_us = Evt3Decoder().decode(data)["t"]
        assert -(512 << 12) < t_us[1] - t_us[0] <= 0

    @pytest.mark.parametrize("size", [1, 2, 5, 100, 1000])
    def test_time_goes_on_where_a_writer_leaves_out_time_high(self, size):
        t_us = np.arange(0, 40_000, 700)
        words = [*evt3_time(5 << 12), 3]
        for each in t_us.tolist():
            words += [0x6 << 12 | each & 0xFFF, evt3_event(1)]
        decoder, data = Evt3Decoder(), evt3(*words)
        cuts = range(size, len(words), size)
        events = decode_in_parts(decoder, data, cuts, 2)
        assert (events["t"] - (5 << 12)).tolist() == t_us.tolist()
        after = decoder.decode(evt3(*evt3_time((5 << 12) + 50_000), evt3_event(1)))
        assert after["t"].tolist() == [(5 << 12) + 50_000]

    def test_a_row_before_the_first_time_counts(self):
        data = evt3(9, 0x3 << 12 | 1 << 11 | 30, *evt3_time(5), 0x5 << 12 | 1)
        assert Evt3Decoder().decode(data).tolist() == [(5, 30, 9, 1)]

    def test_events_before_the_first_time_are_dropped(self):
        data = evt3(7, evt3_event(1), *evt3_time(0), evt3_event(3))
        assert Evt3Decoder().decode(data).tolist() == [(0, 3, 7, 1)]

    @given(EVT3_WORDS, CUTS)
    def test_triggers_are_kept_wherever_the_words_are_cut(self, words, cuts):
        whole, parts = Evt3Decoder(), Evt3Decoder()
        whole.triggers, parts.triggers = [], []
        events = whole.decode(evt3(*words))
        assert np.array_equal(decode_in_parts(parts, evt3(*words), cuts, 2), events)
        assert parts.triggers == whole.triggers
        assert np.array_equal(Evt3Decoder().decode(evt3(*words)), events)

    def test_a_trigger_has_the_time_of_the_words_before(self):
        decoder = Evt3Decoder()
        decoder.triggers = []
        decoder.decode(evt3(*evt3_time(5_000), 0xA << 12 | 3 << 8 | 1, 0xA << 12))
        assert decoder.triggers == [(5_000, 3, True), (5_000, 0, False)]

    @given(EVT3_WORDS, CUTS)
    def test_the_cuts_do_not_matter(self, words, cuts):
        data = evt3(*words)
        whole = Evt3Decoder().decode(data)
        assert np.array_equal(decode_in_parts(Evt3Decoder(), data, cuts, 2), whole)

    def test_an_odd_number_of_bytes_is_malformed_and_changes_nothing(self):
        decoder = Evt3Decoder()
        decoder.decode(evt3(*evt3_time(5), 3))
        with pytest.raises(MalformedPayload, match="evt3 payload: 3 bytes"):
            decoder.decode(bytes(3))
        assert decoder.decode(evt3(evt3_event(1))).tolist() == [(5, 1, 3, 1)]


@pytest.mark.parametrize("decoder", [Evt2Decoder, Evt3Decoder])
def test_no_bytes_are_no_events(decoder):
    events = decoder().decode(b"")
    assert events.dtype == EVENT_DTYPE
    assert events.size == 0


def ros2_payload(message):
    """Return the encoded bytes of an event_camera_msgs/EventPacket in CDR."""

    def aligned(place, size):
        return 4 + -(-(place - 4) // size) * size

    def length(place):
        return struct.unpack_from("<I", message, place)[0]

    frame_id = 12
    place = aligned(frame_id + 4 + length(frame_id), 4) + 8
    encoding = aligned(place, 8) + 16
    bigendian = encoding + 4 + length(encoding)
    data = aligned(bigendian + 1, 4)
    return message[data + 4 : data + 4 + length(data)]


def test_a_640x480_recording_has_the_known_sum_of_timestamps(recordings):
    data = (recordings / "evt3_640x480.raw").read_bytes()
    data = data[data.index(b"% end\n") + 6 :]
    events = decode_in_parts(Evt3Decoder(), data, range(0, len(data) // 2, 2049), 2)
    assert events.size == 343_474
    assert events["t"].sum() == 2_851_601_611_994
    check(events, Sensor(640, 480), None)


def test_a_1280x720_recording_with_a_trigger_has_the_known_sums(recordings):
    path = next((recordings / "evt3_1280x720_trigger").glob("*.db3"))
    database = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    messages = database.execute("select data from messages order by id").fetchall()
    database.close()
    decoder = Evt3Decoder()
    events = np.concatenate([decoder.decode(ros2_payload(m)) for (m,) in messages])
    assert events.size == 82_469
    assert events["t"].sum() == 1_222_326_831_810
    assert events["x"].sum(dtype=int) == 42_078_718
    assert events["y"].sum(dtype=int) == 31_656_267
    assert events["p"].sum(dtype=int) == 41_439


def decode_with_successors(kind, data, cuts, word_bytes):
    """Decode in parts, each with a new decoder that imports the last one's state."""
    places = [0, *(min(cut * word_bytes, len(data)) for cut in cuts), len(data)]
    decoder, parts = kind(), []
    for begin, end in pairwise(places):
        parts.append(decoder.decode(data[begin:end]))
        state = decoder.export_state()
        assert state == decoder.export_state(), "an export changes nothing"
        decoder = kind()
        decoder.import_state(state)
    return np.concatenate(parts)


@given(EVT2_WORDS, CUTS)
def test_another_evt2_decoder_continues_from_the_state_of_the_first(words, cuts):
    data = evt2(*words)
    expected = Evt2Decoder().decode(data)
    assert np.array_equal(decode_with_successors(Evt2Decoder, data, cuts, 4), expected)


@given(EVT3_WORDS, CUTS)
def test_another_evt3_decoder_continues_from_the_state_of_the_first(words, cuts):
    data = evt3(*words)
    expected = Evt3Decoder().decode(data)
    assert np.array_equal(decode_with_successors(Evt3Decoder, data, cuts, 2), expected)

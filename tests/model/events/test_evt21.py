"""The incremental decoder of EVT2.1, in streams and in files."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.encodings.evt21 import Evt21Decoder
from saccade.model.events.errors import MalformedPayload, MalformedRecording
from saccade.model.events.reading import ReadOptions, Trigger
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor


def high(t_us):
    return 0x8 << 60 | t_us >> 6 << 32


def vector(t_us, x, y, p, valid):
    return p << 60 | (t_us & 63) << 54 | x << 43 | y << 32 | valid


def encoded(*words, is_legacy=False):
    array = np.array(words, "<u8")
    return (array << 32 | array >> 32 if is_legacy else array).tobytes()


WORDS = st.lists(
    st.one_of(
        st.builds(high, st.integers(0, 2**34 - 1)),
        st.builds(
            vector,
            st.integers(0, 63),
            st.integers(0, 2047),
            st.integers(0, 2047),
            st.integers(0, 1),
            st.integers(0, 2**32 - 1),
        ),
        st.integers(0, 2**64 - 1),
    ),
    max_size=40,
)
CUTS = st.lists(st.integers(0, 40), max_size=4).map(sorted)


def test_a_word_is_an_event_for_each_bit_that_is_set():
    words = high(128), vector(131, 288, 7, 1, 1 << 31 | 0b101), vector(132, 0, 8, 0, 1)
    assert Evt21Decoder().decode(encoded(*words)).tolist() == [
        (131, 288, 7, 1),
        (131, 290, 7, 1),
        (131, 319, 7, 1),
        (132, 0, 8, 0),
    ]


def test_prophesees_example_of_both_orders_is_one_word():
    word = 0x0102030405060708
    assert encoded(word).hex() == "0807060504030201"
    assert encoded(word, is_legacy=True).hex() == "0403020108070605"


def test_the_example_of_the_protocol_is_decoded():
    data = bytes.fromhex("00000000 0a000080 0a000000 07000814")
    assert Evt21Decoder().decode(data).tolist() == [(656, 257, 7, 1), (656, 259, 7, 1)]


def test_other_words_and_events_before_the_first_time_are_dropped():
    words = vector(5, 1, 1, 1, 1), high(64), 0xA << 60, 0xE << 60 | 7, 0xF << 60
    assert Evt21Decoder().decode(encoded(*words)).size == 0


def test_the_wraps_of_the_clock_are_undone():
    decoder = Evt21Decoder()
    words = high(2**34 - 1), vector(63, 0, 0, 0, 1), high(0), vector(0, 0, 0, 0, 1)
    assert decoder.decode(encoded(*words))["t"].tolist() == [2**34 - 1, 2**34]


def test_triggers_are_kept_where_that_is_wanted():
    decoder = Evt21Decoder()
    decoder.triggers = []
    rising = 0xA << 60 | 7 << 54 | 3 << 40 | 1 << 32
    decoder.decode(encoded(rising, high(64), rising))
    assert decoder.triggers == [Trigger(71, 3, rising=True)]


@pytest.mark.parametrize("size", [1, 4, 7, 12])
def test_a_cut_word_is_malformed_and_changes_nothing(size):
    decoder = Evt21Decoder()
    decoder.decode(encoded(high(192)))
    with pytest.raises(MalformedPayload, match=f"evt21 payload: {size} bytes"):
        decoder.decode(bytes(size))
    assert decoder.decode(encoded(vector(1, 0, 0, 0, 1)))["t"].tolist() == [193]


@given(WORDS, CUTS, st.booleans())
def test_neither_cuts_nor_a_change_of_decoder_matter(words, cuts, is_legacy):
    data = encoded(*words, is_legacy=is_legacy)
    whole = Evt21Decoder().decode(encoded(*words))
    places = [0, *(min(cut * 8, len(data)) for cut in cuts), len(data)]
    decoder, parts = Evt21Decoder(is_legacy=is_legacy), []
    for begin, end in pairwise(places):
        parts.append(decoder.decode(memoryview(data)[begin:end]))
        state = decoder.export_state()
        decoder = Evt21Decoder(is_legacy=is_legacy)
        decoder.import_state(state)
    assert np.array_equal(np.concatenate(parts), whole)


GENX320 = [high(640), vector(641, 32, 9, 1, 0b11), high(704), vector(705, 0, 319, 0, 1)]
REBASED = [(0, 32, 9, 1), (0, 33, 9, 1), (64, 0, 319, 0)]
HEADERS = {
    "a format with all": (
        "% format EVT21;endianness=little;height=320;width=320",
        False,
    ),
    "lines": ("% evt 2.1\n% endianness little\n% geometry 320x320", False),
    "no order": ("% evt 2.1\n% geometry 320x320", False),
    "legacy": ("% format EVT21;endianness=legacy;height=320;width=320", True),
    "legacy in a line": ("% evt 2.1\n% endianness legacy\n% geometry 320x320", True),
    "no order, but legacy": ("% evt 2.1\n% geometry 320x320", True),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_raw_file_is_read_in_the_order_of_its_words(tmp_path, name):
    header, is_legacy = HEADERS[name]
    path = tmp_path / "a.raw"
    words = encoded(*GENX320, is_legacy=is_legacy)
    path.write_bytes(f"{header}\n% end\n".encode() + words)
    recording = open_recording(path)
    assert (recording.sensor, recording.origin) == (Sensor(320, 320), "header")
    assert np.concatenate(list(recording.events)).tolist() == REBASED


def test_a_raw_file_that_ends_inside_a_word_is_refused(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 2.1\n% end\n" + encoded(*GENX320)[:-3])
    with pytest.raises(MalformedRecording, match="inside a word"):
        list(open_recording(path, Sensor(320, 320)).events)


def test_a_raw_file_that_ends_inside_a_word_is_read_where_that_is_wanted(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 2.1\n% end\n" + encoded(*GENX320)[:-3])
    options = ReadOptions(truncated="read")
    events = open_recording(path, Sensor(320, 320), options=options).events
    assert np.concatenate(list(events)).tolist() == REBASED[:2]

"""Tables of events as people have them: text, plain arrays, arrays of columns."""

from __future__ import annotations

import faery
import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.errors import MalformedRecording
from saccade.model.events.reading import ReadOptions
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE

ROWS = [(1_000, 10, 20, 1), (1_010, 11, 21, 0), (1_020, 12, 22, 1)]
REBASED = [(0, 10, 20, 1), (10, 11, 21, 0), (20, 12, 22, 1)]


def read_all(recording):
    return np.concatenate(list(recording.events))


def many(count=1_000):
    rng = np.random.default_rng(3)
    events = np.empty(count, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, 100_000, count))
    events["t"][0] = 0
    events["x"], events["y"] = rng.integers(0, 128, (2, count))
    events["p"] = rng.integers(0, 2, count)
    return events


def text(rows, delimiter=",", header="t,x,y,p"):
    lines = [header] if header else []
    lines += [delimiter.join(map(str, row)) for row in rows]
    return "\n".join(lines) + "\n"


COMMA = text(ROWS, header="")
TEXTS = {
    "byte-order mark": "\ufeff" + text(ROWS),
    "comment": "# jAER export\n" + text(ROWS),
    "comment as the header": "# t x y p\n" + text(ROWS, " ", ""),
    "tabs": text(ROWS, "\t", "t\tx\ty\tp"),
    "semicolons": text(ROWS, ";", "t;x;y;p"),
    "blanks": text(ROWS, "  ", "t x y p"),
    "blanks after commas": text(ROWS, ", ", "t, x, y, p"),
    "quotes": '"t","x","y","p"\n"1000","10","20","1"\n"1010","11","21","0"\n'
    '"1020","12","22","1"\n',
    "no header": COMMA,
    "x y t p without header": "10 20 1000 1\n11 21 1010 0\n12 22 1020 1\n",
    "x y p t without header": "10,20,1,1000\n11,21,0,1010\n12,22,1,1020\n",
    "dos line ends": text(ROWS).replace("\n", "\r\n"),
    "no last line end": text(ROWS).rstrip("\n"),
    "blank lines": "\n" + text(ROWS) + "\n\n",
    "seconds": "t,x,y,p\n0.001000,10,20,1\n0.001010,11,21,0\n0.001020,12,22,1\n",
    "decimal commas": "t;x;y;p\n0,001000;10;20;1\n0,001010;11;21;0\n0,001020;12;22;1\n",
    "floats": "t,x,y,p\n1000.0,10.0,20,1.0\n1010.0,11,21,0.0\n1020.0,12,22,1.0\n",
    "nanoseconds by name": "t_ns,x,y,p\n"
    + text([(t * 1000, *rest) for t, *rest in ROWS], header=""),
    "milliseconds by name": "time [ms],x,y,p\n"
    + text([(t / 1000, *rest) for t, *rest in ROWS], header=""),
    "True and False": "t,x,y,p\n1000,10,20,True\n1010,11,21,False\n1020,12,22,True\n",
    "plus and minus one": "t,x,y,p\n1000,10,20,1\n1010,11,21,-1\n1020,12,22,1\n",
    "other names": "pol,ys,xs,id,ts\n1,20,10,7,1000\n0,21,11,7,1010\n1,22,12,7,1020\n",
    "On/Off": "Timestamp,X,Y,On/Off\n" + COMMA,
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("suffix", [".csv", ".txt", ".tsv"])
def test_a_text_table_is_read(tmp_path, name, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(TEXTS[name].encode())
    assert read_all(open_recording(path)).tolist() == REBASED


@pytest.mark.parametrize(
    "start", ["%geometry:1280,720\n", "# geometry: 1280x720\n", "1280 720\n"]
)
def test_a_geometry_before_the_rows_is_the_files(tmp_path, start):
    path = tmp_path / "a.csv"
    path.write_text(start + text(ROWS, " ", ""))
    recording = open_recording(path)
    assert (recording.sensor, recording.origin) == (Sensor(1280, 720), "header")
    assert read_all(recording).tolist() == REBASED


def test_faerys_own_csv_is_read_with_its_geometry(tmp_path):
    events, path = many(), tmp_path / "a.csv"
    faery.events_stream_from_array(
        events.astype(faery.EVENTS_DTYPE), dimensions=(128, 96 + 32)
    ).to_file(path)
    recording = open_recording(path)
    assert (recording.sensor, recording.origin) == (Sensor(128, 128), "header")
    assert np.array_equal(read_all(recording), events)


def test_what_was_guessed_is_said(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0.001,10,20,1\n0.002,11,21,0\n")
    recording = open_recording(path)
    read_all(recording)
    assert recording.findings.warnings == [
        "the columns have no names and are taken as t x y p",
        "t has fractions and is taken as seconds",
    ]


def test_the_callers_names_win(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1 20 7 10 1000\n0 21 7 11 1010\n1 22 7 12 1020\n")
    options = ReadOptions(columns=("p", "y", "_", "x", "t"))
    assert read_all(open_recording(path, options=options)).tolist() == REBASED


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("1 2 3\n4 5 6\n", "3 columns without names"),
        ("7 1 2 3\n3 1 2 3\n", "none of t x y p"),
        ("t,x,y,p\n0,1.5,2,1\n", "x has a value that is no integer"),
        ("t,x,y,p\n0,1,2,0.5\n", "p has a value that is no integer"),
        ("t,x,y,p\n0,1,2,7000\n", "p = 7000"),
        ("t,x,y,p\nnan,1,2,1\n", "t has a value that is no time"),
        ("t,x,y,p\n1e300,1,2,1\n", "t has a value that is no time"),
        ("# nothing\n", "no events"),
        ("t,x,y,p\n" + "7" * 3000 + ",1,2,1\n", "in the lines from 2 on"),
    ],
)
def test_what_is_no_table_of_events_is_refused_in_words(tmp_path, rows, reason):
    path = tmp_path / "a.csv"
    path.write_text(rows)
    with pytest.raises(MalformedRecording, match=reason):
        read_all(open_recording(path))


def test_a_cut_last_line_is_left_out_where_that_is_wanted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text(ROWS)[:-5])
    with pytest.raises(MalformedRecording, match="in the lines from 2 on"):
        read_all(open_recording(path))
    recording = open_recording(path, options=ReadOptions(truncated="read"))
    assert read_all(recording).tolist() == REBASED[:2]
    assert "its last line is cut and left out" in recording.findings.warnings


def plain(events, dtype, order="txyp"):
    return np.stack([events[field].astype(dtype) for field in order], axis=1)


ARRAYS = {
    "t x y p": lambda e: plain(e, "i8"),
    "x y t p": lambda e: plain(e, "u4", "xytp"),
    "x y p t": lambda e: plain(e, "f8", "xypt"),
    "columns together": lambda e: np.asfortranarray(plain(e, "i8")),
    "four rows": lambda e: np.ascontiguousarray(plain(e, "i8").T),
    "seconds": lambda e: plain(e, "f8") * (1e-6, 1, 1, 1),
    "signs": lambda e: plain(e, "i4") * (1, 1, 1, 2) - (0, 0, 0, 1),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_a_plain_array_is_read(tmp_path, monkeypatch, name, save):
    monkeypatch.setattr("saccade.model.events.formats.npy.CHUNK_EVENTS", 300)
    events = many()
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, ARRAYS[name](events))
    chunks = list(open_recording(path).events)
    assert np.array_equal(np.concatenate(chunks), events)
    assert [chunk.size for chunk in chunks] == [300, 300, 300, 100]


KEYS = [
    ("t", "x", "y", "p"),
    ("timestamp", "x", "y", "polarity"),
    ("ts", "xs", "ys", "ps"),
]


@pytest.mark.parametrize("keys", KEYS)
def test_an_archive_with_an_array_for_each_column_is_read(tmp_path, keys):
    events = many()
    path = tmp_path / "a.npz"
    arrays = dict(zip(keys, (events[field] for field in "txyp"), strict=True))
    np.savez_compressed(path, label=np.array(3), **arrays)
    assert np.array_equal(read_all(open_recording(path)), events)


def test_columns_of_unequal_length_are_not_taken(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, t=np.arange(3), x=np.arange(2), y=np.arange(3), p=np.zeros(3))
    with pytest.raises(ValueError, match="4 arrays, none named events"):
        open_recording(path)


@pytest.mark.parametrize(
    ("time", "ticks"), [("datetime64[ns]", 1000), ("timedelta64[us]", 1)]
)
def test_numpys_own_times_are_read(tmp_path, time, ticks):
    rows = np.array(ROWS, [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "?")])
    dtype = [("t", time), ("x", "u2"), ("y", "u2"), ("p", "?")]
    events = np.empty(3, dtype)
    for field in "xyp":
        events[field] = rows[field]
    events["t"] = (rows["t"] * ticks).astype(time)
    path = tmp_path / "a.npy"
    np.save(path, events)
    assert read_all(open_recording(path)).tolist() == REBASED


def test_a_cut_array_is_read_up_to_the_cut_where_that_is_wanted(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array(ROWS, EVENT_DTYPE))
    path.write_bytes(path.read_bytes()[:-3])
    recording = open_recording(path, options=ReadOptions(truncated="read"))
    assert read_all(recording).tolist() == REBASED[:2]
    assert recording.findings.warnings == ["truncated: 3 events announced, 2 are there"]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**40),
            st.integers(0, 2047),
            st.integers(0, 2047),
            st.integers(0, 1),
        ),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([",", ";", "\t", " "]),
    st.permutations("txyp"),
    st.sampled_from([1, 3, 1 << 15]),
)
def test_a_named_table_gives_its_rows_however_it_is_cut(
    tmp_path_factory, rows, delimiter, order, lines
):
    path = tmp_path_factory.getbasetemp() / "given.csv"
    shown = [[row["txyp".index(field)] for field in order] for row in rows]
    path.write_text(text(shown, delimiter, delimiter.join(order)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("saccade.model.events.formats.csv.CHUNK_LINES", lines)
        events = read_all(open_recording(path))
    assert events.tolist() == [(t - rows[0][0], *rest) for t, *rest in rows]

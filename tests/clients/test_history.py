from __future__ import annotations

from hypothesis import given, strategies as st

from saccade.clients.display.statistics import (
    FIRST_COLUMN_US,
    WIDEST_COLUMN_US,
    History,
)


def test_a_short_recording_has_narrow_columns():
    history = History(columns=8)
    for t_us in (0, FIRST_COLUMN_US, 2 * FIRST_COLUMN_US):
        history.note(t_us, "a", 0.5, None)
    assert [moment.column for moment in history.moments] == [0, 1, 2]


def test_the_last_result_of_a_column_is_the_one_that_shows():
    history = History(columns=8)
    history.note(0, "a", 0.5, None)
    history.note(1, "b", 0.6, None)
    assert [moment.label for moment in history.moments] == ["b"]


def test_columns_join_in_pairs_when_the_strip_is_full():
    history = History(columns=4)
    for number, label in enumerate("abcdef"):
        history.note(number * FIRST_COLUMN_US, label, 0.5, None)
    assert [(m.column, m.label) for m in history.moments] == [
        (0, "b"),
        (1, "d"),
        (2, "f"),
    ]


def test_the_oldest_leaves_once_columns_are_widest():
    history = History(columns=4)
    for number in range(20):
        history.note(number * WIDEST_COLUMN_US, str(number), 0.5, None)
    assert [moment.label for moment in history.moments] == ["16", "17", "18", "19"]


def test_time_that_begins_anew_replaces_what_it_passes():
    history = History(columns=8)
    for number in range(4):
        history.note(number * FIRST_COLUMN_US, "old", 0.5, None)
    history.note(0, "new", 0.5, None)
    assert [moment.label for moment in history.moments] == ["new"]


@given(st.lists(st.integers(0, 10**8), max_size=60), st.integers(1, 16))
def test_columns_are_in_order_and_never_too_many(times_us, columns):
    history = History(columns)
    for t_us in sorted(times_us):
        history.note(t_us, "a", 0.5, None)
        places = [moment.column for moment in history.moments]
        assert places == sorted(set(places))
        assert places[-1] - places[0] < columns

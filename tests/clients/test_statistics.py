from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from saccade.clients.display.statistics import (
    FIRST_COLUMN_US,
    WIDEST_COLUMN_US,
    History,
    Tally,
    softmax,
)
from saccade.clients.session import StreamStats
from saccade.clients.sources import Timeline
from saccade.server.protocol.messages import Closed
from tests.clients.scripted import opened, result


def test_a_short_recording_has_narrow_columns():
    history = History(columns=8)
    for t_us in (0, FIRST_COLUMN_US, 2 * FIRST_COLUMN_US):
        history.append(t_us, "a", 0.5, None)
    assert [moment.column for moment in history.moments] == [0, 1, 2]


def test_the_last_result_of_a_column_is_the_one_that_shows():
    history = History(columns=8)
    history.append(0, "a", 0.5, None)
    history.append(1, "b", 0.6, None)
    assert [moment.label for moment in history.moments] == ["b"]


def test_columns_join_in_pairs_when_the_strip_is_full():
    history = History(columns=4)
    for number, label in enumerate("abcdef"):
        history.append(number * FIRST_COLUMN_US, label, 0.5, None)
    assert [(m.column, m.label) for m in history.moments] == [
        (0, "b"),
        (1, "d"),
        (2, "f"),
    ]


def test_the_oldest_leaves_once_columns_are_widest():
    history = History(columns=4)
    for number in range(20):
        history.append(number * WIDEST_COLUMN_US, str(number), 0.5, None)
    assert [moment.label for moment in history.moments] == ["16", "17", "18", "19"]


def test_time_that_begins_anew_replaces_what_it_passes():
    history = History(columns=8)
    for number in range(4):
        history.append(number * FIRST_COLUMN_US, "old", 0.5, None)
    history.append(0, "new", 0.5, None)
    assert [moment.label for moment in history.moments] == ["new"]


@given(st.lists(st.integers(0, 10**8), max_size=60), st.integers(1, 16))
def test_columns_are_in_order_and_never_too_many(times_us, columns):
    history = History(columns)
    for t_us in sorted(times_us):
        history.append(t_us, "a", 0.5, None)
        places = [moment.column for moment in history.moments]
        assert places == sorted(set(places))
        assert places[-1] - places[0] < columns


def make_tally(stats=None, truth=None):
    return Tally("toy.bin", opened(), stats or StreamStats(), truth or Timeline(), 0.0)


def test_before_the_first_result_there_is_nothing_to_claim():
    snapshot = make_tally().snapshot(1.0)
    assert (snapshot.label, snapshot.scores, snapshot.latency) == (None, None, None)


def test_scores_are_shown_as_probabilities():
    tally = make_tally()
    tally.add(result(4))
    snapshot = tally.snapshot(1.0)
    assert sum(snapshot.scores) == pytest.approx(1)
    assert snapshot.scores[0] == pytest.approx(0.8808, abs=1e-4)
    assert softmax([1000.0, 0.0]) == [1.0, 0.0]


def test_the_rate_is_that_of_the_last_two_seconds():
    stats = StreamStats()
    tally = make_tally(stats)
    for now_s in range(1, 5):
        stats.acked_events += 100
        assert tally.snapshot(float(now_s)).events_per_s == pytest.approx(100)
    assert tally.snapshot(6.0).events_per_s == pytest.approx(0)


def test_what_is_on_its_way_is_what_was_sent_and_not_acknowledged():
    tally = make_tally(StreamStats(events=50, acked_events=20))
    assert tally.snapshot(1.0).waiting == 30


def test_results_are_judged_by_what_really_happened_then():
    truth = Timeline()
    truth.append(0, "left")
    truth.append(10_000, "right")
    tally = make_tally(truth=truth)
    tally.add(result(4, label="left"))
    tally.add(result(8, label="left"))
    tally.add(result(12, label="left"))
    tally.add(result(16, label="right"))
    assert tally.snapshot(1.0).truth == "right"
    summary = tally.summary(Closed(1, 4, 16, 0), 2.0)
    assert summary.agreement == pytest.approx(0.75)


def test_without_a_truth_there_is_no_agreement():
    tally = make_tally()
    tally.add(result(4))
    assert tally.summary(Closed(1, 1, 4, 0), 1.0).agreement is None


def test_the_summary_adds_up():
    stats = StreamStats(frames=3, events=100, refused_frames=1, refused_events=30)
    stats.latencies_ms.extend([1.0, 2.0, 3.0])
    closed = Closed(3, 17, 68, 2, 2_500_000, [2.0, 0.0], "left", 0.88)
    summary = make_tally(stats).summary(closed, 4.0)
    assert (summary.events_sent, summary.events_refused) == (100, 30)
    assert summary.events_scored + summary.events_pending == 70
    assert (summary.events_per_s, summary.stream_s) == (25.0, 2.5)
    assert summary.latency_p50_ms == 2.0

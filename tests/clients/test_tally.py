from __future__ import annotations

import pytest

from saccade.clients.display.statistics import Tally, softmax
from saccade.clients.session import StreamStats
from saccade.clients.sources import Timeline
from saccade.server.protocol.messages import Closed
from tests.clients.scripted import opened, result


def make_tally(traffic=None, truth=None):
    return Tally(
        "toy.bin", opened(), traffic or StreamStats(), truth or Timeline(), 0.0
    )


def test_before_the_first_result_there_is_nothing_to_claim():
    snapshot = make_tally().snapshot(1.0)
    assert (snapshot.label, snapshot.scores, snapshot.latency) == (None, None, None)


def test_scores_are_shown_as_probabilities():
    tally = make_tally()
    tally.heard(result(4))
    snapshot = tally.snapshot(1.0)
    assert sum(snapshot.scores) == pytest.approx(1)
    assert snapshot.scores[0] == pytest.approx(0.8808, abs=1e-4)
    assert softmax([1000.0, 0.0]) == [1.0, 0.0]


def test_the_rate_is_that_of_the_last_two_seconds():
    traffic = StreamStats()
    tally = make_tally(traffic)
    for now_s in range(1, 5):
        traffic.acked_events += 100
        assert tally.snapshot(float(now_s)).events_per_s == pytest.approx(100)
    assert tally.snapshot(6.0).events_per_s == pytest.approx(0)


def test_what_is_on_its_way_is_what_was_sent_and_not_acknowledged():
    tally = make_tally(StreamStats(events=50, acked_events=20))
    assert tally.snapshot(1.0).waiting == 30


def test_results_are_judged_by_what_really_happened_then():
    truth = Timeline()
    truth.note(0, "left")
    truth.note(10_000, "right")
    tally = make_tally(truth=truth)
    tally.heard(result(4, label="left"))
    tally.heard(result(8, label="left"))
    tally.heard(result(12, label="left"))
    tally.heard(result(16, label="right"))
    assert tally.snapshot(1.0).truth == "right"
    summary = tally.summary(Closed(1, 4, 16, 0), 2.0)
    assert summary.agreement == pytest.approx(0.75)


def test_without_a_truth_there_is_no_agreement():
    tally = make_tally()
    tally.heard(result(4))
    assert tally.summary(Closed(1, 1, 4, 0), 1.0).agreement is None


def test_the_summary_adds_up():
    traffic = StreamStats(frames=3, events=100, refused_frames=1, refused_events=30)
    traffic.latencies_ms.extend([1.0, 2.0, 3.0])
    closed = Closed(3, 17, 68, 2, 2_500_000, [2.0, 0.0], "left", 0.88)
    summary = make_tally(traffic).summary(closed, 4.0)
    assert (summary.events_sent, summary.events_refused) == (100, 30)
    assert summary.events_scored + summary.events_pending == 70
    assert (summary.events_per_s, summary.stream_s) == (25.0, 2.5)
    assert summary.latency_p50_ms == 2.0

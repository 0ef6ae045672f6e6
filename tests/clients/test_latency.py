from __future__ import annotations

import pytest

from saccade.clients.flow_control import LatencyLedger


def test_a_result_is_timed_from_the_frame_that_completed_its_tick():
    ledger = LatencyLedger()
    ledger.departed(seq=1, events=3, now_s=10.0)
    ledger.departed(seq=2, events=3, now_s=10.1)
    ledger.departed(seq=3, events=3, now_s=10.2)
    assert ledger.scored(events=4, now_s=10.15) == pytest.approx(50)
    assert ledger.scored(events=8, now_s=10.25) == pytest.approx(50)


def test_one_frame_may_complete_several_ticks():
    ledger = LatencyLedger()
    ledger.departed(seq=1, events=12, now_s=1.0)
    assert ledger.scored(events=4, now_s=1.001) == pytest.approx(1)
    assert ledger.scored(events=12, now_s=1.002) == pytest.approx(2)


def test_a_refused_frame_times_nothing():
    ledger = LatencyLedger()
    ledger.departed(seq=1, events=3, now_s=1.0)
    ledger.departed(seq=2, events=5, now_s=2.0)
    ledger.departed(seq=3, events=3, now_s=3.0)
    assert ledger.refused(2) == 5
    assert ledger.scored(events=4, now_s=3.5) == pytest.approx(500)


def test_a_frame_that_is_unknown_refuses_no_events():
    assert LatencyLedger().refused(9) == 0


def test_a_result_for_events_never_sent_is_not_timed():
    ledger = LatencyLedger()
    ledger.departed(seq=1, events=3, now_s=1.0)
    assert ledger.scored(events=4, now_s=1.1) is None


def test_the_ledger_stays_short_when_no_results_come():
    ledger = LatencyLedger(longest=2)
    for seq in range(1, 6):
        ledger.departed(seq, events=4, now_s=float(seq))
    assert ledger.scored(events=4, now_s=9.0) is None
    assert ledger.scored(events=16, now_s=9.0) == pytest.approx(5000)


def test_a_restart_counts_from_zero():
    ledger = LatencyLedger()
    ledger.departed(seq=1, events=8, now_s=1.0)
    ledger.restart()
    ledger.departed(seq=2, events=4, now_s=2.0)
    assert ledger.scored(events=4, now_s=2.001) == pytest.approx(1)

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from saccade.clients.flow_control import Credit, LatencyLedger


def test_a_full_window_holds_the_next_frame_until_an_acknowledgement():
    credit = Credit(window_events=10, window_bytes=1000)
    credit.spend(10, 80)
    assert not credit.allows(1, 8)
    credit.acknowledge(4, 32)
    assert credit.allows(4, 32)
    assert not credit.allows(5, 40)


def test_bytes_are_limited_as_events_are():
    credit = Credit(window_events=1000, window_bytes=80)
    credit.spend(5, 40)
    assert credit.allows(5, 40)
    assert not credit.allows(1, 48)


def test_an_acknowledgement_that_comes_late_takes_nothing_back():
    credit = Credit(100, 1000)
    credit.spend(50, 400)
    credit.acknowledge(50, 400)
    credit.acknowledge(20, 160)
    assert (credit.unacked_events, credit.unacked_bytes) == (0, 0)


def test_a_frame_beyond_the_whole_window_goes_alone():
    credit = Credit(window_events=10, window_bytes=80)
    assert credit.allows(11, 88)
    credit.spend(1, 8)
    assert not credit.allows(11, 88)


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60))
def test_what_is_on_its_way_never_exceeds_the_window(steps):
    credit = Credit(window_events=100, window_bytes=800)
    sent = 0
    for events, acknowledged in steps:
        if credit.allows(events, 8 * events):
            credit.spend(events, 8 * events)
            sent += events
        assert 0 <= credit.unacked_events <= 100
        if acknowledged:
            credit.acknowledge(sent, 8 * sent)
            assert credit.unacked_events == 0


def test_a_result_is_timed_from_the_frame_that_completed_its_tick():
    ledger = LatencyLedger()
    ledger.add(seq=1, events=3, now_s=10.0)
    ledger.add(seq=2, events=3, now_s=10.1)
    ledger.add(seq=3, events=3, now_s=10.2)
    assert ledger.latency_ms(events=4, now_s=10.15) == pytest.approx(50)
    assert ledger.latency_ms(events=8, now_s=10.25) == pytest.approx(50)


def test_one_frame_may_complete_several_ticks():
    ledger = LatencyLedger()
    ledger.add(seq=1, events=12, now_s=1.0)
    assert ledger.latency_ms(events=4, now_s=1.001) == pytest.approx(1)
    assert ledger.latency_ms(events=12, now_s=1.002) == pytest.approx(2)


def test_a_refused_frame_times_nothing():
    ledger = LatencyLedger()
    ledger.add(seq=1, events=3, now_s=1.0)
    ledger.add(seq=2, events=5, now_s=2.0)
    ledger.add(seq=3, events=3, now_s=3.0)
    assert ledger.discard(2) == 5
    assert ledger.latency_ms(events=4, now_s=3.5) == pytest.approx(500)


def test_a_frame_that_is_unknown_refuses_no_events():
    assert LatencyLedger().discard(9) == 0


def test_a_result_for_events_never_sent_is_not_timed():
    ledger = LatencyLedger()
    ledger.add(seq=1, events=3, now_s=1.0)
    assert ledger.latency_ms(events=4, now_s=1.1) is None


def test_the_ledger_stays_short_when_no_results_come():
    ledger = LatencyLedger(longest=2)
    for seq in range(1, 6):
        ledger.add(seq, events=4, now_s=float(seq))
    assert ledger.latency_ms(events=4, now_s=9.0) is None
    assert ledger.latency_ms(events=16, now_s=9.0) == pytest.approx(5000)


def test_a_restart_counts_from_zero():
    ledger = LatencyLedger()
    ledger.add(seq=1, events=8, now_s=1.0)
    ledger.restart()
    ledger.add(seq=2, events=4, now_s=2.0)
    assert ledger.latency_ms(events=4, now_s=2.001) == pytest.approx(1)

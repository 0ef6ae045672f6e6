from __future__ import annotations

from hypothesis import given, strategies as st

from saccade.clients.flow_control import Credit


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

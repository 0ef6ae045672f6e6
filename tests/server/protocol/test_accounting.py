from __future__ import annotations

from hypothesis import given, strategies as st

from saccade.server.protocol.ledger import Counts, Ledger
from saccade.server.protocol.messages import Ack


def add(ledger: Ledger, events: int, kept: int | None = None) -> None:
    kept = events if kept is None else kept
    ledger.add(events=events, size=8 * events, kept=kept)


def test_a_frame_is_acknowledged_when_its_last_event_is_consumed():
    ledger = Ledger()
    add(ledger, 10)
    assert ledger.settle(waiting=10) is None
    assert ledger.settle(waiting=1) is None
    assert ledger.settle(waiting=0) == Ack(1, 10, 80)
    assert ledger.settle(waiting=0) is None


def test_acknowledgements_are_cumulative():
    ledger = Ledger()
    for events in (10, 20, 30):
        add(ledger, events)
    assert ledger.settle(waiting=30) == Ack(2, 30, 240)
    assert ledger.settle(waiting=0) == Ack(3, 60, 480)


def test_a_refused_frame_waits_for_the_frames_before_it():
    ledger = Ledger()
    add(ledger, 10)
    add(ledger, 5, kept=0)
    assert ledger.settle(waiting=10) is None
    assert ledger.settle(waiting=0) == Ack(2, 15, 120)


def test_a_refused_frame_with_nothing_before_it_is_acknowledged_at_once():
    ledger = Ledger()
    add(ledger, 5, kept=0)
    assert ledger.settle(waiting=0) == Ack(1, 5, 40)


def test_events_that_a_crop_leaves_out_are_credited_all_the_same():
    ledger = Ledger()
    add(ledger, 100, kept=40)
    assert ledger.settle(waiting=0) == Ack(1, 100, 800)


def test_a_flood_of_empty_frames_takes_no_memory():
    ledger = Ledger()
    add(ledger, 1)
    for _ in range(10_000):
        add(ledger, 0)
    assert len(ledger._waiting) == 1
    assert ledger.settle(waiting=0) == Ack(10_001, 1, 8)


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 100)),
        max_size=40,
    )
)
def test_acknowledged_and_pending_are_what_was_sent(steps):
    ledger = Ledger()
    frames: list[tuple[int, int]] = []
    waiting = 0
    for events, kept, percent in steps:
        kept = min(kept, events)
        add(ledger, events, kept)
        frames.append((events, kept))
        waiting = (waiting + kept) * percent // 100
        before = ledger.acked
        ack = ledger.settle(waiting)
        assert (ack is None) == (ledger.acked == before)
        total = (a + p for a, p in zip(ledger.acked, ledger.pending, strict=True))
        assert Counts(*total) == ledger.sent
        assert ledger.acked.seq == sum(
            sum(kept for _, kept in frames[i + 1 :]) >= waiting
            and sum(kept for _, kept in frames[: i + 1])
            <= sum(kept for _, kept in frames) - waiting
            for i in range(len(frames))
        )
        assert ledger.acked.events == sum(e for e, _ in frames[: ledger.acked.seq])
        assert len(ledger._waiting) <= waiting

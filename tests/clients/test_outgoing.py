"""What was said is kept for as long as the server may lose it, and no longer."""

from __future__ import annotations

from hypothesis import given, strategies as st

from saccade.clients.outgoing import SendLog
from saccade.server.protocol.messages import EventsFrame, Flush, Reset


def frame(seq):
    return EventsFrame(seq, bytes(8 * seq))


def said(*messages):
    outgoing = SendLog(keeps=True)
    for message in messages:
        outgoing.say(message, events=1)
    return outgoing, drained(outgoing)


def drained(outgoing):
    return list(iter(outgoing.next, None))


def test_all_after_the_known_frame_goes_again_in_order():
    outgoing, messages = said(frame(1), frame(2), Flush(1), frame(3))
    assert outgoing.rewind(1) == (1, 8)
    assert drained(outgoing) == messages[1:]


def test_a_reset_right_after_the_durable_frame_goes_again():
    outgoing, messages = said(frame(1), Reset(1), frame(2))
    outgoing.rewind(1)
    assert outgoing.resets() == {1}
    assert drained(outgoing) == messages[1:]
    outgoing.rewind(2)
    assert drained(outgoing) == []


def test_a_flush_that_was_answered_is_forgotten():
    outgoing, _ = said(Flush(1), Flush(2))
    outgoing.answered(1)
    outgoing.rewind(0)
    assert drained(outgoing) == [Flush(2)]


def test_nothing_is_kept_for_a_session_that_cannot_be_resumed():
    outgoing = SendLog(keeps=False)
    outgoing.say(frame(1), events=1)
    drained(outgoing)
    assert outgoing.kept_bytes == 0


@given(
    frames=st.integers(0, 12),
    taken=st.integers(0, 12),
    durable=st.lists(st.integers(0, 12), max_size=4),
    known=st.integers(0, 12),
)
def test_no_frame_is_lost_or_said_out_of_order(frames, taken, durable, known):
    outgoing = SendLog(keeps=True)
    for seq in range(1, frames + 1):
        outgoing.say(frame(seq), events=seq)
    sent = [m.seq for m in (outgoing.next() for _ in range(taken)) if m is not None]
    for seq in durable:
        outgoing.durable(min(seq, len(sent)))
    known = min(max([known, *durable]), len(sent))
    events, size = outgoing.rewind(known)
    assert events == sum(range(known + 1))
    assert size == 8 * events
    assert outgoing.kept_bytes == sum(8 * seq for seq in range(known + 1, frames + 1))
    assert [m.seq for m in drained(outgoing)] == list(range(known + 1, frames + 1))


def test_a_live_source_lets_go_of_the_oldest_and_says_their_frames_empty():
    outgoing, _ = said(frame(1), frame(2))
    outgoing.say(frame(3), events=1)
    outgoing.say(Flush(1))
    outgoing.say(frame(4), events=1)
    assert outgoing.hollow(8 * 5) == [3]
    assert (outgoing.kept_bytes, outgoing.dropped_events) == (8 * 4, 1)
    assert drained(outgoing) == [EventsFrame(3, b""), Flush(1), frame(4)]


def test_what_was_sent_and_let_go_of_is_dropped_only_if_the_server_lost_it():
    outgoing, _ = said(frame(1), frame(2), frame(3))
    assert outgoing.hollow(8 * 3) == []
    assert outgoing.dropped_events == 0
    outgoing.rewind(1)
    assert outgoing.dropped_events == 1
    assert drained(outgoing) == [EventsFrame(2, b""), frame(3)]


def test_what_waits_to_be_sent_counts_where_nothing_is_kept_after_it():
    outgoing = SendLog(keeps=False)
    outgoing.say(frame(1), events=1)
    outgoing.say(frame(2), events=1)
    assert outgoing.hollow(8 * 2) == [1]
    assert drained(outgoing) == [EventsFrame(1, b""), frame(2)]
    assert outgoing.kept_bytes == 0

"""Messages are kept for as long as the server may lose them, and no longer."""

from __future__ import annotations

from hypothesis import given, strategies as st

from saccade.clients.outgoing import SendLog
from saccade.server.protocol.messages import EventsFrame, Flush, Reset


def frame(seq):
    return EventsFrame(seq, bytes(8 * seq))


def sent(*messages):
    log = SendLog(resumable=True)
    for message in messages:
        log.append(message, events=1)
    return log, drained(log)


def drained(log):
    return list(iter(log.take_next, None))


def test_all_after_the_known_frame_goes_again_in_order():
    log, messages = sent(frame(1), frame(2), Flush(1), frame(3))
    assert log.rewind(1) == (1, 8)
    assert drained(log) == messages[1:]


def test_a_reset_right_after_the_durable_frame_goes_again():
    log, messages = sent(frame(1), Reset(1), frame(2))
    log.rewind(1)
    assert log.unsent_resets() == {1}
    assert drained(log) == messages[1:]
    log.rewind(2)
    assert drained(log) == []


def test_a_flush_that_was_answered_is_forgotten():
    log, _ = sent(Flush(1), Flush(2))
    log.discard_flush(1)
    log.rewind(0)
    assert drained(log) == [Flush(2)]


def test_nothing_is_kept_for_a_session_that_cannot_be_resumed():
    log = SendLog(resumable=False)
    log.append(frame(1), events=1)
    drained(log)
    assert log.kept_bytes == 0


@given(
    frames=st.integers(0, 12),
    taken=st.integers(0, 12),
    durable=st.lists(st.integers(0, 12), max_size=4),
    known=st.integers(0, 12),
)
def test_no_frame_is_lost_or_sent_out_of_order(frames, taken, durable, known):
    log = SendLog(resumable=True)
    for seq in range(1, frames + 1):
        log.append(frame(seq), events=seq)
    taken_seqs = [
        m.seq for m in (log.take_next() for _ in range(taken)) if m is not None
    ]
    for seq in durable:
        log.discard_durable(min(seq, len(taken_seqs)))
    known = min(max([known, *durable]), len(taken_seqs))
    events, size = log.rewind(known)
    assert events == sum(range(known + 1))
    assert size == 8 * events
    assert log.kept_bytes == sum(8 * seq for seq in range(known + 1, frames + 1))
    assert [m.seq for m in drained(log)] == list(range(known + 1, frames + 1))


def test_a_live_source_drops_the_oldest_events_and_sends_their_frames_empty():
    log, _ = sent(frame(1), frame(2))
    log.append(frame(3), events=1)
    log.append(Flush(1))
    log.append(frame(4), events=1)
    assert log.drop_payloads(8 * 5) == [3]
    assert (log.kept_bytes, log.dropped_events) == (8 * 4, 1)
    assert drained(log) == [EventsFrame(3, b""), Flush(1), frame(4)]


def test_sent_events_that_were_dropped_count_only_if_the_server_lost_them():
    log, _ = sent(frame(1), frame(2), frame(3))
    assert log.drop_payloads(8 * 3) == []
    assert log.dropped_events == 0
    log.rewind(1)
    assert log.dropped_events == 1
    assert drained(log) == [EventsFrame(2, b""), frame(3)]


def test_dropped_events_count_once_however_often_their_frames_go_again():
    log, _ = sent(frame(1), frame(2))
    log.append(frame(3), events=1)
    assert log.drop_payloads(0) == [3]
    for _ in range(3):
        drained(log)
        log.rewind(0)
    assert log.dropped_events == 3


def test_what_waits_to_be_sent_counts_where_nothing_is_kept_after_it():
    log = SendLog(resumable=False)
    log.append(frame(1), events=1)
    log.append(frame(2), events=1)
    assert log.drop_payloads(8 * 2) == [1]
    assert drained(log) == [EventsFrame(1, b""), frame(2)]
    assert log.kept_bytes == 0


def test_a_log_that_keeps_from_now_on_is_complete_once_the_rest_is_durable():
    log = SendLog(resumable=False)
    for message in (frame(1), frame(2), Flush(1)):
        log.append(message, events=1)
    drained(log)
    log.keep()
    later = [frame(3), Reset(2), frame(4)]
    for message in later:
        log.append(message, events=1)
    drained(log)
    log.discard_durable(1)
    assert not log.complete
    log.discard_durable(2)
    assert log.complete
    assert log.rewind(2) == (2, 24)
    assert drained(log) == [Flush(1), *later]

from __future__ import annotations

from dataclasses import replace

from saccade.clients.errors import ConnectionLost, StreamError
from saccade.clients.session import Bounds, Session
from saccade.model.events.sensor import Sensor
from saccade.server.protocol.messages import (
    Ack,
    Closed,
    ErrorMessage,
    Open,
    Result,
)
from tests.clients.scripted import moving, opened, result


def sent(session, count, now_s=0.0):
    for payload in session.payloads(moving(count)):
        session.dispatch(payload, now_s)
    return list(iter(session.send_log.take_next, None))


def test_frames_are_numbered_from_one_without_gaps():
    session = Session(Open("toy"), opened(window_events=16))
    assert [frame.seq for frame in sent(session, 10)] == [1, 2, 3]
    assert [frame.seq for frame in sent(session, 4)] == [4]


def test_a_caller_may_keep_less_under_way_than_the_server_grants():
    session = Session(Open("toy"), opened(), Bounds(events_under_way=8))
    payloads = list(session.payloads(moving(12)))
    assert [payload.events for payload in payloads] == [2] * 6
    for payload in payloads[:4]:
        assert session.may_send(payload)
        session.dispatch(payload, 0.0)
    assert not session.may_send(payloads[4])
    session.receive(Ack(1, 2, 16), 0.0)
    assert session.may_send(payloads[4])


def test_refusals_are_returned_together_and_once():
    session = Session(Open("toy"), opened())
    sent(session, 4)
    for seq in (1, 2, 3):
        session.receive(ErrorMessage("unsorted_events", "no", False, seq=seq), 0.0)
    first = session.take_refusal()
    assert (first.seq, [other.seq for other in first.further]) == (1, [2, 3])
    assert session.take_refusal() is None
    assert (session.stats.refused_frames, session.stats.refused_events) == (3, 4)


def scored(ticks, **fields):
    scores = [0.5, 0.5], "left", 0.5
    return Result(ticks, ticks, 4 * ticks, ticks, *scores, **fields)


def test_a_session_that_moved_names_the_server_that_has_it_now():
    session = Session(Open("toy"), opened(resume="token", replica="a"))
    session.resume(opened(resume="token", resumed=True, replica="b"))
    assert session.opened.replica == "b"


def test_results_that_a_lost_connection_took_with_it_are_counted():
    session = Session(Open("toy"), opened(resume="token"))
    sent(session, 40)
    for heard in (scored(1), scored(4, superseded=2)):
        session.receive(heard, 0.0)
    session.resume(opened(resume="token", resumed=True, results=9))
    session.receive(scored(9), 0.0)  # the newest; five to eight were on their way
    stats = session.stats
    assert (stats.results, stats.superseded_results, stats.lost_results) == (3, 2, 4)
    session.resume(opened(resume="token", resumed=True, results=9))
    session.receive(scored(9), 0.0)  # came before
    session.receive(scored(10), 0.0)
    assert (stats.results, stats.lost_results) == (4, 4)


def test_a_server_that_fell_back_to_a_snapshot_has_lost_no_scored():
    session = Session(Open("toy"), opened(resume="token"))
    sent(session, 40)
    for ticks in range(1, 7):
        session.receive(scored(ticks), 0.0)
    session.resume(opened(resume="token", resumed=True, results=3))
    for ticks in range(3, 9):
        session.receive(scored(ticks), 0.0)
    assert (session.stats.results, session.stats.lost_results) == (8, 0)


def test_the_first_reason_for_the_end_counts():
    session = Session(Open("toy"), opened())
    session.receive(ErrorMessage("engine_failed", "the engine failed", True), 0.0)
    session.fail(ConnectionLost(1011, ""))
    assert isinstance(session.failure, StreamError)


def test_a_session_that_closed_cannot_fail_any_more():
    session = Session(Open("toy"), opened())
    session.receive(Closed(0, 0, 0, 0), 0.0)
    session.fail(ConnectionLost(1006, ""))
    assert session.failure is None


def test_a_cropped_stream_is_not_timed_since_the_server_counts_fewer_events():
    opening = Open("toy", sensor=Sensor(640, 480), fit="crop")
    session = Session(opening, opened())
    sent(session, 8)
    session.receive(result(4), 1.0)
    assert not session.stats.latencies_ms


def test_a_crop_that_changes_nothing_is_timed():
    session = Session(Open("toy", sensor=Sensor(128, 128), fit="crop"), opened())
    sent(session, 8)
    session.receive(result(4), 1.0)
    assert list(session.stats.latencies_ms) == [1000.0]


def test_a_live_session_never_waits_for_credit_and_counts_what_it_drops():
    opening = Open("toy", when_full="drop-oldest")
    session = Session(opening, opened(window_events=16), Bounds(kept_bytes=64))
    payloads = list(session.payloads(moving(40)))
    assert all(session.may_send(payload) for payload in payloads)
    for payload in payloads:
        session.dispatch(payload, 0.0)
    assert session.stats.dropped_events == session.stats.dropped_locally == 32
    frames = list(iter(session.send_log.take_next, None))
    assert [frame.seq for frame in frames] == list(range(1, 11))
    assert [len(frame.data) for frame in frames] == [0] * 8 + [32] * 2
    session.receive(Ack(10, 8, 64, dropped=3), 0.0)
    assert session.stats.dropped_events == 35
    session.receive(result(4), 0.25)
    assert list(session.stats.latencies_ms) == [250.0]


def test_a_session_keeps_to_the_window_of_the_newest_acknowledgement():
    opening = Open("toy", max_lag_ms=100)
    session = Session(opening, opened(window_events=16))
    payloads = list(session.payloads(moving(40)))
    session.dispatch(payloads[0], 0.0)
    session.receive(Ack(1, 4, 32, lag_ms=7, window_events=4), 0.0)
    assert (session.stats.lag_ms, session.stats.window_events) == (7, 4)
    assert session.may_send(payloads[1])
    session.dispatch(payloads[1], 0.0)
    assert not session.may_send(payloads[2])
    session.receive(Ack(1, 4, 32, lag_ms=3, window_events=12), 0.0)
    assert session.may_send(payloads[2])


def test_results_that_the_server_left_out_are_counted():
    session = Session(Open("toy"), opened())
    session.receive(result(4), 0.0)
    session.receive(replace(result(12), superseded=1), 0.0)
    assert session.stats.superseded_results == 1


IDLE = ErrorMessage("session_idle", "nothing came", True)


def test_a_suspended_session_is_idle_until_there_is_something_to_send():
    session = Session(Open("toy"), opened(resume="token"))
    sent(session, 4)
    session.receive(Ack(1, 4, 32), 0.0)
    session.receive(IDLE, 0.0)
    assert session.idle
    assert not session.ended
    for payload in session.payloads(moving(4, start_us=100)):
        session.dispatch(payload, 0.0)
    assert not session.idle


def test_what_was_sent_while_the_session_was_suspended_is_sent_again_at_once():
    session = Session(Open("toy"), opened(resume="token"))
    sent(session, 4)
    session.receive(IDLE, 0.0)  # no ack: the server never read the frame
    assert not session.idle


def test_a_session_that_cannot_be_resumed_ends_when_it_is_suspended():
    session = Session(Open("toy"), opened())
    session.receive(IDLE, 0.0)
    assert session.failure.code == "session_idle"


def test_a_session_can_be_resumed_once_it_has_a_token_and_keeps_what_may_be_lost():
    session = Session(Open("toy"), opened())
    sent(session, 4)
    assert not session.resumable
    session.receive(Ack(0, 0, 0, 0, resume="token"), 0.0)
    assert session.opened.resume == "token"
    assert not session.resumable  # frame 1 is neither kept nor durable
    sent(session, 4)
    session.receive(Ack(1, 4, 32, 1, resume="token"), 0.0)
    assert session.resumable
    session.receive(IDLE, 0.0)
    assert (session.suspended, session.failure) == (True, None)

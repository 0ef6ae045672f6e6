"""A session outlives its connection: same scores, whoever comes back and when."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from saccade.server.protocol.messages import (
    Ack,
    Close,
    Closed,
    ErrorMessage,
    Flush,
    Flushed,
    Open,
    Opened,
    Report,
    Result,
)
from tests.toy import event_scores, some_events, toy_model, wait_until
from tests.wire import Client

FAST = {"snapshot_s": 0.05}


def drop(client: Client) -> None:
    """Lose the connection as a network does: without a word."""
    client.socket.socket.close()


def come_back(client: Client, opened: Opened, **fields: Any) -> Opened:
    assert opened.resume is not None
    again = client.open(resume=opened.resume, **fields)
    assert again.resumed
    client.seq = again.seq
    return again


@pytest.fixture(params=["memory", "sqlite"])
def kept(request: Any, tmp_path: Path) -> dict[str, Any]:
    return {"store": request.param, "store_path": tmp_path / "s.sqlite", **FAST}


def test_a_client_that_lost_its_connection_goes_on_where_it_was(
    serve: Any, kept: dict[str, Any]
) -> None:
    server, events = serve(**kept), some_events(101)
    with server.client() as first:
        opened = first.open()
        for start in range(0, 60, 10):
            first.send(events[start : start + 10])
        first.hear_until(Ack)
        drop(first)
    with server.client() as second:
        again = come_back(second, opened)
        assert (again.session, again.model_hash) == (opened.session, "0123abcd")
        for start in range(10 * again.seq, 101, 10):
            second.send(events[start : start + 10])
        closed = second.finish()
    assert (closed.ticks, closed.pending, closed.seq) == (50, 1, 11)
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


def test_a_second_connection_takes_over_and_the_first_is_told(
    serve: Any, kept: dict[str, Any]
) -> None:
    server, events = serve(**kept), some_events(40)
    with server.client() as first, server.client() as second:
        opened = first.open()
        first.send(events[:15])
        first.hear_until(Ack)
        assert come_back(second, opened).seq == 1
        assert first.close_code() == 4410
        assert first.of(ErrorMessage)[-1].code == "taken_over"
        second.send(events[15:])
        closed = second.finish()
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


def test_frames_that_are_known_are_acknowledged_and_not_scored_twice(
    serve: Any,
) -> None:
    server, events = serve(**FAST), some_events(30)
    with server.client() as first:
        opened = first.open()
        first.send(events[:10])
        first.send(events[10:20])
        first.hear_until(Ack)
        drop(first)
    with server.client() as second:
        again = come_back(second, opened)
        assert again.seq == 2
        second.seq = 0
        for start in (0, 10, 20):
            second.send(events[start : start + 10])
        closed = second.finish()
        assert second.of(Ack)[-1].events == 30
    assert (closed.events, closed.seq) == (30, 3)
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


def test_acks_say_what_is_durable_soon_after_it_is(serve: Any) -> None:
    with serve(**FAST).client() as client:
        assert client.open().resume_ttl_ms == 300_000
        client.send(some_events(7))
        while client.hear_until(Ack).durable_seq < 1:
            pass


def test_a_detached_session_frees_its_slot_and_comes_back_to_another(
    serve: Any,
) -> None:
    server, events = serve(slots=1, **FAST), some_events(40)
    used = server.service.engine.slots_used
    with server.client() as first:
        opened = first.open()
        first.send(events[:21])
        first.hear_until(Ack)
        drop(first)
    wait_until(lambda: used("toy") == 0)
    with server.client() as other:
        other.open()
        other.send(some_events(9, seed=5))
        other.finish()
    with server.client() as again:
        come_back(again, opened)
        again.send(events[21:])
        closed = again.finish()
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


def test_answers_that_may_be_lost_are_said_again(serve: Any) -> None:
    server = serve(**FAST)
    with server.client() as first:
        opened = first.open(report=Report("change"))
        first.send(some_events(9))
        first.say(Flush(5))
        flushed = first.hear_until(Flushed)
        drop(first)
    with server.client() as second:
        come_back(second, opened, report=Report("change"))
        assert second.hear_until(Flushed) == flushed
        assert second.hear_until(Result).label == first.of(Result)[-1].label


def test_a_session_that_is_resumed_says_how_many_results_there_were(
    serve: Any, kept: dict[str, Any]
) -> None:
    server = serve(**kept)
    with server.client() as first:
        opened = first.open(report=Report("tick"))
        assert opened.results == 0
        first.send(some_events(9))
        while len(first.of(Result)) < 4:
            first.hear_until(Result)
        drop(first)
    with server.client() as second:
        again = come_back(second, opened, report=Report("tick"))
        assert again.results == 4
        assert second.hear_until(Result) == first.of(Result)[-1]


def test_the_last_word_can_be_asked_for_again(serve: Any) -> None:
    server, events = serve(**FAST), some_events(12)
    with server.client() as first:
        opened = first.open()
        first.send(events)
        first.say(Close())
        closed = first.hear_until(Closed)
    with server.client() as second:
        again = come_back(second, opened)
        if again.seq == 0:
            second.send(events)
        assert second.finish() == closed


@pytest.mark.parametrize(
    ("change", "code", "close_code"),
    [
        ({"resume": "nobody's"}, "unknown_session", 4404),
        ({"report": Report("flush")}, "invalid_field", 1007),
        ({"encoding": "evt2", "sensor": toy_model().sensor}, "invalid_field", 1007),
    ],
)
def test_coming_back_otherwise_is_refused(
    serve: Any, change: dict[str, Any], code: str, close_code: int
) -> None:
    server = serve(**FAST)
    with server.client() as first:
        opened = first.open()
        drop(first)
    with server.client() as second:
        second.say(Open("toy", **{"resume": opened.resume, **change}))
        assert second.close_code() == close_code
        assert second.of(ErrorMessage)[0].code == code


def test_an_ack_follows_a_resume_even_of_a_session_without_frames(serve: Any) -> None:
    server = serve()
    with server.client() as client:
        opened = client.open()
        drop(client)
    with server.client() as client:
        come_back(client, opened)
        assert client.hear_until(Ack).seq == 0


def test_a_client_that_hangs_up_on_purpose_ends_its_session(serve: Any) -> None:
    server = serve(**FAST)
    with server.client() as first:
        opened = first.open()
    wait_until(lambda: server.service.engine.slots_used("toy") == 0)
    with server.client() as second:
        second.say(Open("toy", resume=opened.resume))
        assert second.close_code() == 4404


def test_nobody_comes_back_after_the_time_is_over(serve: Any) -> None:
    server = serve(session_ttl_s=1.0, **FAST)
    with server.client() as first:
        opened = first.open()
        drop(first)
    wait_until(lambda: server.service.engine.slots_used("toy") == 0)
    with server.client() as idle:
        kept = idle.open()
        time.sleep(1.5)
        with server.client() as second:
            second.say(Open("toy", resume=opened.resume))
            assert second.close_code() == 4404
        with server.client() as third:  # whoever is connected does not expire
            come_back(third, kept)


def test_another_version_of_the_model_is_refused_by_name(
    serve: Any, tmp_path: Path
) -> None:
    path = tmp_path / "s.sqlite"
    kept = {"store": "sqlite", "store_path": path, **FAST}
    with serve(**kept).client() as first:
        opened = first.open()
        first.send(some_events(5))
        while first.hear_until(Ack).durable_seq < 1:
            pass
        drop(first)
    newer = dataclasses.replace(toy_model(), content_hash="feedbeef")
    with serve(newer, **kept).client() as second:
        second.say(Open("toy", resume=opened.resume))
        assert second.close_code() == 4409
        (error,) = second.of(ErrorMessage)
        assert error.code == "model_changed"
        assert "0123abcd" in error.message
        assert "feedbeef" in error.message


def test_two_servers_with_one_store_never_both_own_a_session(
    serve: Any, tmp_path: Path
) -> None:
    kept = {"store": "sqlite", "store_path": tmp_path / "s.sqlite", **FAST}
    one, two, events = serve(**kept), serve(**kept), some_events(50)
    with one.client() as first, two.client() as second:
        opened = first.open()
        first.send(events[:20])
        while first.hear_until(Ack).durable_seq < 1:
            pass
        assert come_back(second, opened).seq == 1
        first.send(events[20:30])  # the old owner learns it when it saves next
        assert first.close_code() == 4410
        second.send(events[20:])
        closed = second.finish()
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1], rel=1e-6)


def test_a_store_that_cannot_be_written_costs_resumption_and_nothing_else(
    serve: Any, tmp_path: Path
) -> None:
    server = serve(store="sqlite", store_path=tmp_path / "s.sqlite", **FAST)
    with sqlite3.connect(tmp_path / "s.sqlite") as database:
        database.execute("DROP TABLE sessions")
    events = some_events(20)
    with server.client() as client:
        assert client.open().resume is None
        client.send(events)
        assert client.finish().logits[0] == pytest.approx(event_scores(events)[-1])

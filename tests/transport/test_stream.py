from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from saccade.model.events.sensor import Sensor
from saccade.server.engine.errors import EngineFailed
from saccade.server.protocol.messages import (
    Ack,
    Close,
    Closed,
    Flush,
    Flushed,
    GoAway,
    Open,
    ReadoutWindow,
    Report,
    Reset,
    Result,
    WasReset,
)
from saccade.server.sessions.snapshots import decode
from tests.faults import Fault, Gate
from tests.toy import event_scores, some_events, toy_advance, toy_model, wait_until


def test_a_recording_comes_back_as_one_result_a_tick(server: Any) -> None:
    events = some_events(41)
    with server.client() as client:
        opened = client.open()
        assert (opened.model, opened.model_hash) == ("toy", "0123abcd")
        assert opened.labels == ["up", "down"]
        assert opened.tick_events == 2
        for start in range(0, 41, 7):
            client.send(events[start : start + 7])
        closed = client.finish()
        assert client.scores == pytest.approx(event_scores(events))
        assert (closed.ticks, closed.events, closed.pending) == (20, 40, 1)
        assert closed.logits[0] == client.scores[-1]
        assert closed.t_us == events["t"][39]
        assert closed.seq == client.acked.seq == client.seq
        assert client.acked.events == 41
        assert client.acked.bytes == 8 * 41


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("size", [1, 9, 300])
def test_the_final_scores_do_not_depend_on_frames_or_form(
    server: Any, size: int, text: bool
) -> None:
    events = some_events(300, seed=4)
    with server.client(text=text) as client:
        client.open(report=Report("flush"))
        for start in range(0, 300, size):
            client.send(events[start : start + size])
        closed = client.finish()
        assert closed.logits[0] == pytest.approx(event_scores(events)[-1])
        assert client.of(Result) == []


def test_a_flush_answers_for_exactly_the_events_before_it(server: Any) -> None:
    events = some_events(60, seed=2)
    scores = event_scores(events)
    with server.client() as client:
        client.open(report=Report("flush"))
        client.say(Flush(7))
        for n, start in enumerate(range(0, 60, 5)):
            client.send(events[start : start + 5])
            client.say(Flush(100 + n))
        client.finish()
        first, *rest = client.of(Flushed)
        assert (first.id, first.logits, first.pending) == (7, None, 0)
        for n, flushed in enumerate(rest):
            sent = 5 * (n + 1)
            assert flushed.id == 100 + n
            assert flushed.seq == n + 1
            assert (flushed.ticks, flushed.pending) == divmod(sent, 2)
            assert flushed.logits[0] == pytest.approx(scores[sent // 2 - 1])


def test_with_following_gaps_the_newest_event_waits_for_the_next(serve: Any) -> None:
    """The toy's tick is two events; a third one tells the second one's gap."""
    server = serve(toy_model(timestep="following"))
    events = some_events(6, seed=3)
    scores = event_scores(events)
    with server.client() as client:
        client.open(report=Report("flush"))
        for n in range(6):
            client.send(events[n : n + 1])
            client.say(Flush(n))
        client.say(Reset(9))
        client.send(some_events(3, seed=5))
        closed = client.finish()
        flushes = [(f.ticks, f.events, f.pending) for f in client.of(Flushed)]
        assert flushes == [
            (0, 0, 1),
            (0, 0, 2),
            (1, 2, 1),
            (1, 2, 2),
            (2, 4, 1),
            (2, 4, 2),
        ]
        last = client.of(Flushed)[-1]
        assert last.logits[0] == pytest.approx(scores[1])
        assert last.t_us == events["t"][3]
        # The event that waited is forgotten with the rest, and never scored.
        assert (closed.ticks, closed.pending) == (1, 1)
        assert closed.logits[0] == pytest.approx(
            event_scores(some_events(3, seed=5))[0]
        )
        assert client.acked.events == 9


def test_a_reset_begins_anew_timestamps_too(server: Any) -> None:
    events = some_events(20, start_us=1_000_000)
    with server.client() as client:
        client.open()
        client.send(events[:5])
        client.say(Reset(3))
        client.send(some_events(6, seed=8))
        closed = client.finish()
        assert client.of(WasReset) == [WasReset(3)]
        assert closed.ticks == 3
        assert client.scores[-3:] == pytest.approx(event_scores(some_events(6, seed=8)))
        assert (client.acked.seq, client.acked.events) == (2, 11)


def test_each_result_names_the_frames_that_are_scored(server: Any) -> None:
    with server.client() as client:
        client.open()
        for n in range(6):
            client.send(some_events(3, seed=n, start_us=100 * n))
        client.finish()
        for result in client.of(Result):
            whole = result.events // 3
            assert result.seq in {whole, whole + 1}


def test_a_session_may_forget_with_a_half_life(server: Any) -> None:
    with server.client() as client:
        client.open(readout=ReadoutWindow("half_life", 20.0))
        client.send(some_events(4))
        assert client.finish().ticks == 2


def test_a_larger_sensor_is_fitted_where_the_client_says_so(server: Any) -> None:
    with server.client() as client:
        client.open(sensor=Sensor(640, 480), fit="scale")
        events = some_events(8)
        events["x"] *= 150
        client.send(events)
        assert client.finish().ticks == 4


def test_events_that_a_crop_leaves_out_are_acknowledged(server: Any) -> None:
    with server.client() as client:
        client.open(sensor=Sensor(100, 100), fit="crop")
        client.send(some_events(8))
        closed = client.finish()
        assert (closed.events, closed.pending) == (0, 0)
        assert client.acked.events == 8


def test_many_clients_at_once_each_get_their_own_scores(server: Any) -> None:
    failures: list[BaseException] = []

    def play(seed: int) -> None:
        try:
            events = some_events(400, seed=seed)
            with server.client() as client:
                client.open()
                for start in range(0, 400, 1 + 13 * seed):
                    client.send(events[start : start + 1 + 13 * seed])
                client.finish()
                assert client.scores == pytest.approx(event_scores(events))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=play, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_slots_come_back_however_a_session_ends(server: Any) -> None:
    service = server.service
    for n in range(12):
        with server.client() as client:
            client.open()
            client.send(some_events(5))
            if n % 3 == 0:
                client.finish()
            elif n % 3 == 1:
                client.socket.socket.close()  # vanish
    wait_until(lambda: service.engine.slots_used("toy") == 0)
    wait_until(lambda: not service.connections)


def test_a_full_server_says_so_and_recovers(serve: Any) -> None:
    server = serve(slots=1, sessions=1)
    with server.client() as first, server.client() as second:
        first.open()
        second.say(Open("toy"))
        assert second.close_code() == 1013
        assert second.error.code == "slots_exhausted"
        first.send(some_events(2))
        assert first.finish().ticks == 1
    wait_until(lambda: server.service.engine.slots_used("toy") == 0)
    with server.client() as third:
        third.open()


def test_before_the_engine_is_ready_a_session_is_asked_to_wait(serve: Any) -> None:
    gate = threading.Event()

    def slow(*arguments: Any) -> Any:
        gate.wait(20)
        return toy_advance(*arguments)

    server = serve(toy_model(advance=slow), wait=lambda _: True)
    try:
        with server.client() as client:
            client.say(Open("toy"))
            assert client.close_code() == 1013
            assert client.error.code == "not_ready"
    finally:
        gate.set()


def test_when_the_device_fails_its_sessions_end_with_1011(serve: Any) -> None:
    fault = Fault()
    server = serve(toy_model(advance=fault.advance))
    with server.client() as client, server.client() as idle:
        client.open()
        idle.open()
        fault.arm(10**6)
        client.send(some_events(4))
        for each in (client, idle):
            assert each.close_code() == 1011
            assert each.error.code == "engine_failed"
            assert fault.TEXT not in each.error.message
    with pytest.raises(EngineFailed):
        server.service.engine.frontend.open("toy", 1.0)


def test_a_score_that_is_not_finite_ends_that_session(serve: Any) -> None:
    def poisoned(*arguments: Any) -> Any:
        carry, logits = toy_advance(*arguments)
        return carry, logits / (logits != 31.0)  # the token of the last pixel

    server = serve(toy_model(advance=poisoned))
    events = some_events(2)
    events["x"], events["y"], events["p"] = 3, 3, 1
    with server.client() as client:
        client.open()
        client.send(events)
        assert client.close_code() == 1011
        assert client.error.code == "internal_error"
    with server.client() as other:
        other.open()
        other.send(some_events(4))
        assert other.finish().ticks == 2


def test_a_slow_reader_receives_the_latest_and_memory_stays_bounded(serve: Any) -> None:
    server = serve(outbox_messages=16, window_events=1 << 17)
    events = some_events(100_000)
    with server.client(max_queue=1, text=True) as client:
        client.open()
        for start in range(0, 100_000, 10_000):
            client.send(events[start : start + 10_000])
        (queue,) = server.service.connections
        wait_until(lambda: queue.superseded > 0)
        assert len(queue) < 40
        closed = client.finish()
        assert closed.ticks == 50_000
        assert closed.logits[0] == pytest.approx(event_scores(events)[-1])
        assert client.acked.events == 100_000
        assert len(client.of(Result)) < 50_000
        ticks = [result.ticks for result in client.of(Result)]
        assert ticks == sorted(ticks)


SMALL: dict[str, Any] = {
    "window_events": 256,
    "window_bytes": 1 << 14,
    "max_frame_bytes": 2048,
}


def test_a_client_that_keeps_to_a_small_window_loses_nothing(serve: Any) -> None:
    server = serve(**SMALL)
    events = some_events(20_000, seed=3)
    with server.client() as client:
        assert client.open(report=Report("flush")).window_events == 256
        for start in range(0, 20_000, 200):
            client.send(events[start : start + 200])
        closed = client.finish()
    assert closed.ticks == 10_000
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1])


def test_a_client_over_its_window_and_a_frame_is_refused(serve: Any) -> None:
    gate = Gate()
    server = serve(toy_model(advance=gate.advance), **SMALL)
    events = some_events(800)
    with server.client() as client, gate:
        client.open()
        for start in range(0, 512, 128):  # a window, and one frame beyond it
            client.send_at_once(events[start : start + 128])
        assert client.socket.ping().wait(20)
        (queue,) = server.service.connections
        assert queue.ending is None
        client.send_at_once(events[512:514])
        assert client.close_code() == 4413
        assert client.error.code == "credit_exceeded"
        assert (client.error.value, client.error.fatal) == (514, True)


def test_a_congested_session_answers_pings_and_takes_what_follows(serve: Any) -> None:
    gate = Gate()
    server = serve(toy_model(advance=gate.advance), **SMALL)
    events, more = some_events(256), some_events(8, seed=1)
    with server.client() as client:
        client.open(report=Report("flush"))
        with gate:
            client.send(events[:128])
            client.send(events[128:])
            client.say(Flush(1))
            client.say(Reset(2))
            client.send_at_once(more)
            client.say(Flush(3))
            client.say(Close())
            for _ in range(3):
                assert client.socket.ping().wait(20), "the server reads no more"
            assert not client.of(Flushed)
        assert client.close_code() == 1000
        first, second = client.of(Flushed)
    assert (first.id, first.ticks, first.pending) == (1, 128, 0)
    assert client.of(WasReset) == [WasReset(2)]
    assert (second.id, second.ticks) == (3, 4)
    assert second.logits[0] == pytest.approx(event_scores(more)[-1])
    assert client.of(Closed)[0].ticks == 4
    assert client.acked.events == 264


def test_what_waits_for_a_reset_is_bounded_too(serve: Any) -> None:
    gate = Gate()
    server = serve(toy_model(advance=gate.advance), outbox_messages=8, **SMALL)
    with server.client() as client, gate:
        client.open()
        client.send(some_events(4))
        client.say(Reset(1))
        for number in range(9):
            client.say(Flush(number))
        assert client.close_code() == 4413
        assert client.error.code == "credit_exceeded"


def test_a_client_that_asks_and_does_not_read_is_refused(serve: Any) -> None:
    server = serve(outbox_messages=8)
    with server.client(max_queue=1) as client:
        client.open()
        (queue,) = server.service.connections

        def ask() -> None:
            with suppress(ConnectionClosed):
                for number in range(10_000_000):
                    client.say(Flush(number))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: queue.ending is not None)
        client.socket.socket.shutdown(socket.SHUT_RDWR)
        asking.join(60)
        assert queue.ending.reason == "credit_exceeded"


def test_what_is_sent_is_acknowledged_or_under_way_at_every_ack(server: Any) -> None:
    rng = np.random.default_rng(5)
    with server.client() as client:
        client.open()
        sizes = rng.integers(0, 30, 60)
        for n, size in enumerate(sizes):
            client.send(some_events(int(size), start_us=1000 * n))
        client.finish()
        sent = np.concatenate([[0], np.cumsum(sizes)])
        for ack in client.of(Ack):
            assert ack.events == sent[ack.seq]
            assert ack.bytes == 8 * ack.events
        assert client.acked.seq == 60


def test_a_server_that_leaves_tells_its_sessions_first(serve: Any) -> None:
    server = serve()
    with server.client() as client:
        client.open()
        client.send(some_events(5))
        leaving = asyncio.run_coroutine_threadsafe(
            server.service.drain(500), server.loop
        )
        assert client.hear_until(GoAway).reconnect_after_ms == 500
        with server.client() as late:
            late.say(Open("toy"))
            assert late.close_code() == 1013
        assert client.finish().ticks == 2
        leaving.result(5)


def test_a_server_that_stops_scores_what_waits_before_it_saves(serve: Any) -> None:
    gate, events = Gate(), some_events(400)
    server = serve(toy_model(advance=gate.advance), drain_s=4.0)
    service = server.service
    with server.client() as client:
        client.open()
        with gate:
            client.send(events)
            received = service.metrics.model("toy").events_received
            wait_until(lambda: received.value == 400)
            leaving = asyncio.run_coroutine_threadsafe(service.drain(1), server.loop)
            wait_until(lambda: not any(m.reading for m in service.connections))
        leaving.result(20)
        assert client.close_code() == 1012
        assert client.scores == pytest.approx(event_scores(events))
    (record,) = service.registry._access._store._records.values()
    snapshot = decode(record.data)
    assert snapshot.row is not None
    assert len(snapshot.row.waiting.tokens) == 0
    assert snapshot.last.ticks == 200

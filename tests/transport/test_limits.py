"""How much one key may use, on a real server: each limit has its status or code."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from hypothesis import given, strategies as st
from websockets.asyncio.client import connect as async_connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from saccade.model.events.encodings.packed import pack
from saccade.server.protocol.codec import decode_server, encode_client
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.errors import RateExceeded
from saccade.server.protocol.ledger import Counts
from saccade.server.protocol.messages import Ack, EventsFrame, Flush, Flushed, Open
from saccade.server.settings import Settings
from saccade.server.transport.auth import digest_of, new_key
from saccade.server.transport.credit import HOLD_S, Credit
from saccade.server.transport.rate_limits import (
    BURST_S,
    LONGEST_DEBT_S,
    WINDOW_S,
    KeyLimits,
    KeyQuotas,
)
from tests.toy import event_scores, some_events, wait_until
from tests.wire import client_of

KEYS = {name: new_key() for name in ("ann", "bob")}
LINES = tuple(f"{name}:{digest_of(key)}" for name, key in KEYS.items())
EVENTS = some_events(8)
BODY = {"model": "toy", "recordings": [{n: EVENTS[n].tolist() for n in "txyp"}]}


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


def client(server: Any, name: str) -> Any:
    return client_of(server.base, additional_headers=bearer(name))


def post(server: Any, name: str, **options: Any) -> httpx.Response:
    headers = {"Content-Type": "application/json", **bearer(name)}
    headers |= options.pop("headers", {})
    options.setdefault("content", json.dumps(BODY))
    url = f"{server.base}/v1/classify"
    return httpx.post(url, headers=headers, timeout=300, **options)


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert (int(answer.headers.get("retry-after", 0)) >= 1) == (status == 429)


def test_a_key_has_so_many_sessions_and_another_key_its_own(serve: Any) -> None:
    server = serve(keys=LINES, key_sessions=2)
    with client(server, "ann") as one, client(server, "ann") as two:
        one.open()
        two.open()
        with client(server, "ann") as three, client(server, "bob") as other:
            other.open()
            three.say(Open("toy"))
            assert three.close_code() == 4429
            assert three.error.code == "too_many_sessions"
            assert three.error.value == 2
        one.send(EVENTS)
        assert one.finish().logits[0] == pytest.approx(event_scores(EVENTS)[-1])
        with client(server, "ann") as three:
            three.open()


def test_a_session_that_comes_back_takes_the_place_of_itself(serve: Any) -> None:
    server = serve(keys=LINES, key_sessions=1, snapshot_s=0.05)
    with client(server, "ann") as first, client(server, "ann") as second:
        opened = first.open()
        first.send(EVENTS)
        first.hear_until(Ack)
        assert second.open(resume=opened.resume).resumed  # `first` seems alive yet
        assert first.close_code() == 4410
        with client(server, "ann") as third:
            third.say(Open("toy"))
            assert third.close_code() == 4429


def test_a_client_that_vanishes_leaves_its_place(serve: Any) -> None:
    server = serve(keys=LINES, key_sessions=1)
    with client(server, "ann") as first:
        first.open()
        first.socket.socket.close()
    wait_until(lambda: server.service.engine.slots_used("toy") == 0)
    with client(server, "ann") as second:
        second.open()


def test_who_sends_faster_than_the_rate_has_credit_at_the_rate(serve: Any) -> None:
    rate, count = 2000, 12_000
    server = serve(keys=LINES, key_events_per_s=rate)
    events = some_events(count)
    with client(server, "ann") as fast:
        opened = fast.open()
        assert opened.window_events == WINDOW_S * rate
        began_s = time.monotonic()
        for start in range(0, count, 500):
            fast.send(events[start : start + 500])
        closed = fast.finish()
    owed_s = (count - opened.window_events) / rate
    assert time.monotonic() - began_s >= owed_s - BURST_S - 0.05
    assert closed.logits[0] == pytest.approx(event_scores(events)[-1])
    assert (
        server.service.metrics.exposition().count(b"saccade_rate_pauses_total 0") == 0
    )


def test_a_key_whose_credit_is_held_back_holds_up_no_other(serve: Any) -> None:
    server = serve(keys=LINES, key_events_per_s=256)
    with client(server, "ann") as fast, client(server, "bob") as other:
        fast.open()
        for start in range(0, 1000, 250):
            fast.send(some_events(250, start_us=10 * start))
        other.open()
        other.send(EVENTS)
        assert other.finish().events == len(EVENTS)
        fast.say(Flush(1))
        fast.hear_until(Flushed)
        assert fast.under_way([]) > 0, "all was acknowledged, whatever the rate"
        assert fast.finish().ticks == 500


def test_who_ignores_the_credit_that_a_rate_holds_back_is_refused(serve: Any) -> None:
    server = serve(keys=LINES, key_events_per_s=256)
    with client(server, "ann") as greedy:
        window = greedy.open().window_events
        for start in range(0, 4 * window, 512):
            with suppress(ConnectionClosed):
                greedy.send_at_once(some_events(512, start_us=10 * start))
        assert greedy.close_code() == 4413
        assert greedy.error.code == "credit_exceeded"


async def test_a_client_that_keeps_to_its_rate_outlives_its_own_pings(
    serve: Any,
) -> None:
    """An ordinary library closes after a ping without a pong."""
    server = serve(keys=LINES, key_events_per_s=256)
    pings = {"ping_interval": 0.2, "ping_timeout": 2.0}
    url = server.base.replace("http", "ws") + "/v1/stream"
    headers = bearer("ann")
    async with async_connect(url, additional_headers=headers, **pings) as socket:
        await socket.send(encode_client(Open("toy")))
        window = decode_server(await socket.recv()).window_events
        events, sent, acked, latest_s = some_events(2 * window), 0, 0, 0.0
        while acked < window + 512:
            part = events[sent : sent + 256]
            if sent + len(part) - acked <= window and len(part):
                sent += len(part)
                frame = EventsFrame(sent // 256, pack(part, 0))
                await socket.send(encode_client(frame))
            else:
                message = decode_server(await socket.recv())
                acked = message.events if isinstance(message, Ack) else acked
            latest_s = max(latest_s, socket.latency)
        assert 0 < latest_s < 2.0


def test_bytes_are_counted_too(serve: Any) -> None:
    server = serve(keys=LINES, key_bytes_per_s=20_000)
    events = some_events(16_000)
    with client(server, "ann") as fast:
        opened = fast.open()
        assert opened.window_bytes == WINDOW_S * 20_000
        began_s = time.monotonic()
        for start in range(0, len(events), 500):
            fast.send(events[start : start + 500])
        fast.finish()
    owed_s = (8 * len(events) - opened.window_bytes) / 20_000
    assert time.monotonic() - began_s >= owed_s - BURST_S - 0.05


def test_many_connections_of_a_key_share_its_rate(serve: Any) -> None:
    server = serve(keys=LINES, key_events_per_s=256)
    frame = EventsFrame(1, pack(some_events(1000), 0))
    with ExitStack() as stack:
        crowd = [stack.enter_context(client(server, "ann")) for _ in range(3)]
        for each in crowd:
            stack.callback(each.socket.socket.close)
            each.open()
            each.say(frame)
            each.say(Flush(1))
        for each in crowd:
            assert each.hear_until(Flushed).ticks == 500
            assert not each.of(Ack), "the rate holds no credit back"
    refused(post(server, "ann"), 429, "rate_exceeded")
    assert post(server, "bob").status_code == 200


def test_who_floods_with_what_needs_no_credit_is_refused(serve: Any) -> None:
    server = serve(keys=LINES, key_bytes_per_s=4096)
    blank = '{"type":"flush","id":1' + 12_000 * " " + "}"
    with client(server, "ann") as flood:
        flood.open()
        with suppress(ConnectionClosed):
            for _ in range(20):
                flood.socket.send(blank)
        assert flood.close_code() == 4429
        assert flood.error.code == "rate_exceeded"
        with client(server, "ann") as one_more:
            assert one_more.close_code() == 4429


def test_a_request_over_the_rate_is_told_when_to_come_again(serve: Any) -> None:
    server = serve(keys=LINES, key_bytes_per_s=4096)
    large = json.dumps({**BODY, "recordings": 250 * BODY["recordings"]})
    assert post(server, "ann", content=large).status_code == 200
    answer = post(server, "ann")
    refused(answer, 429, "rate_exceeded")
    owed_s = len(large) / 4096 - BURST_S
    assert 1 <= int(answer.headers["retry-after"]) <= owed_s + 1
    assert answer.json()["retry_after_s"] <= owed_s
    assert post(server, "bob").status_code == 200


def test_a_key_has_so_many_requests_at_one_time(serve: Any) -> None:
    server = serve(keys=LINES, key_requests=1)
    half_sent, answered = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        whole = json.dumps(BODY).encode()
        yield whole[:10]
        half_sent.set()
        answered.wait(20)
        yield whole[10:]

    statuses: list[int] = []
    slow = threading.Thread(
        target=lambda: statuses.append(
            post(server, "ann", content=slowly()).status_code
        )
    )
    slow.start()
    half_sent.wait(20)
    wait_until(lambda: post(server, "ann").status_code == 429)
    refused(post(server, "ann"), 429, "too_many_requests")
    assert post(server, "bob").status_code == 200
    answered.set()
    slow.join(20)
    assert statuses == [200]
    assert post(server, "ann").status_code == 200


PACKED = {"Content-Encoding": "gzip"}


def test_a_body_may_be_packed(serve: Any) -> None:
    server = serve(keys=LINES)
    plain = post(server, "ann").json()
    content = gzip.compress(json.dumps(BODY).encode())
    assert post(server, "ann", content=content, headers=PACKED).json() == plain


def test_a_bomb_goes_off_no_further_than_the_limit(serve: Any) -> None:
    server = serve(keys=LINES, max_body_bytes=10_000)
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) > 10_000
    refused(post(server, "ann", content=bomb, headers=PACKED), 413, "body_too_large")
    small = gzip.compress(b" " * 1_000_000)
    assert len(small) < 10_000
    refused(post(server, "ann", content=small, headers=PACKED), 413, "body_too_large")
    assert post(server, "ann").status_code == 200


@pytest.mark.parametrize(
    ("content", "encoding", "status", "code"),
    [
        (b"no archive", "gzip", 400, "malformed_body"),
        (gzip.compress(b"{}")[:-4], "gzip", 400, "malformed_body"),
        (gzip.compress(b"{}") + b"more", "gzip", 400, "malformed_body"),
        (b"{}", "br", 415, "unsupported_content_encoding"),
        (b"{}", "gzip, gzip", 415, "unsupported_content_encoding"),
    ],
    ids=["no archive", "cut off", "followed", "brotli", "packed twice"],
)
def test_what_cannot_be_unpacked_is_refused(
    server: Any, content: bytes, encoding: str, status: int, code: str
) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    answer = httpx.post(f"{server.base}/v1/classify", content=content, headers=headers)
    refused(answer, status, code)


def test_a_batch_has_so_many_recordings(serve: Any) -> None:
    server = serve(keys=LINES, max_recordings=2)
    many = json.dumps({**BODY, "recordings": 3 * BODY["recordings"]})
    refused(post(server, "ann", content=many), 413, "batch_too_large")


def test_no_message_is_ever_unpacked(server: Any) -> None:
    url = server.base.replace("http", "ws") + "/v1/stream"
    with connect(url, compression="deflate") as asked:
        assert asked.protocol.extensions == []


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_two_connections_of_a_key_take_turns_and_keep_to_its_rate() -> None:
    clock = Clock()
    quota = KeyQuotas(KeyLimits(events_per_s=1000), clock).of("ann")
    throttles = [quota.throttle() for _ in range(2)]
    taken = [0, 0]
    for _ in range(2000):
        clock.now_s += 0.01
        for number, throttle in enumerate(throttles):
            if not throttle.holding:
                throttle.charge(events=100)
                taken[number] += 100
    assert sum(taken) == pytest.approx(20.0 * 1000 + BURST_S * 1000, rel=0.02)
    assert taken[0] == pytest.approx(taken[1], rel=0.02)


def test_a_debt_that_takes_too_long_to_pay_is_an_error_and_passes() -> None:
    clock = Clock()
    quota = KeyQuotas(KeyLimits(bytes_per_s=1000), clock).of("ann")
    quota.throttle().charge(size=int(1000 * LONGEST_DEBT_S))
    throttle = quota.throttle()
    throttle.charge(size=2000)  # what others owe does not end this connection
    with pytest.raises(RateExceeded) as caught:
        quota.throttle()
    clock.now_s += caught.value.retry_after_s
    quota.throttle().charge(size=1)
    with pytest.raises(RateExceeded):
        throttle.charge(size=int(1000 * (LONGEST_DEBT_S + BURST_S)) + 1)


FRAMES = st.lists(
    st.tuples(st.integers(1, 300), st.integers(0, 40), st.booleans()), max_size=40
)


@given(FRAMES)
def test_no_more_is_acknowledged_than_a_rate_lets_in(
    frames: list[tuple[int, int, bool]],
) -> None:
    clock, limits = Clock(), KeyLimits(events_per_s=100)
    throttle = KeyQuotas(limits, clock).of("ann").throttle()
    began_s, credit = clock.now_s, Credit(limits.within(Limits()))
    sent, told = Counts(), 0
    for events, pause, acked in frames:
        throttle.charge(events=events)
        sent = Counts(sent.seq + 1, sent.events + events, sent.bytes + 8 * events)
        if throttle.holding:
            credit.hold(sent, Counts(), throttle.free_s)
        clock.now_s += pause / 10
        if acked:
            ack = credit.release(Ack(*sent), clock.now_s)
            assert told <= ack.events <= sent.events
            told = ack.events
            assert told <= 100 * (clock.now_s - began_s + BURST_S + HOLD_S) + 1e-6
    clock.now_s += 1000
    assert credit.release(Ack(*sent), clock.now_s) == Ack(*sent)
    assert credit.wait_s(clock.now_s) == 0


def test_what_a_rate_cannot_let_in_soon_is_not_granted() -> None:
    limits = KeyLimits(events_per_s=1000, bytes_per_s=1 << 30).within(Limits())
    assert limits.window_events == 1000 * WINDOW_S
    assert limits.max_frame_bytes == 8 * limits.window_events
    assert limits.window_bytes == Limits().window_bytes
    assert KeyLimits().within(Limits()) == Limits()


@pytest.mark.parametrize(
    "chosen", [{"key_events_per_s": 1}, {"key_bytes_per_s": 9}, {"key_sessions": 0}]
)
def test_a_limit_that_lets_nothing_through_is_refused(chosen: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(chosen))):
        Settings(**chosen)


def test_who_opens_no_session_is_sent_away(serve: Any) -> None:
    server = serve(open_s=0.3)
    with server.client() as silent, server.client() as half, server.client() as other:
        other.open()
        half.socket.socket.sendall(b"\x82\xfe\x01\x00\x00\x00\x00\x00half")
        assert silent.close_code() == 4408
        assert silent.error.code == "session_idle"
        assert half.hear().code == "session_idle"  # its message was never whole
        half.socket.socket.shutdown(socket.SHUT_RDWR)
        other.send(EVENTS)
        assert other.finish().ticks == len(EVENTS) // 2

"""Watching a session over a real websocket: who may, what comes, and how it ends."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from saccade.model.events.encodings.packed import unpack
from saccade.server.protocol.messages import (
    Close,
    Closed,
    Flush,
    Open,
    Opened,
    Report,
    Reset,
    Result,
    WasReset,
)
from saccade.server.sessions.watch_desk import MOST_OF_A_SESSION
from saccade.server.transport.auth import digest_of, new_key
from tests.toy import event_scores, some_events, wait_until
from tests.wire import Client, client_of

KEYS = {name: new_key() for name in ("ann", "bob", "olga")}
LINES = tuple(
    f"{name}:{digest_of(key)}" + (":operator" if name == "olga" else "")
    for name, key in KEYS.items()
)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


def watch_url(server: Any, session: str, query: str = "") -> str:
    root = server.base.replace("http", "ws")
    return f"{root}/v1/sessions/{session}/watch{query}"


class Watcher:
    """Collects what a watch sends, by the names of its messages."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.heard: list[dict[str, Any]] = []

    def hear(self) -> dict[str, Any]:
        data = self.socket.recv(timeout=60)
        message = json.loads(data) if isinstance(data, str) else msgpack.unpackb(data)
        self.heard.append(message)
        return message

    def hear_until(self, name: str, **fields: Any) -> dict[str, Any]:
        while True:
            message = self.hear()
            if message["type"] == name and fields.items() <= message.items():
                return message

    def finish(self) -> dict[str, Any]:
        """Hear everything to the end; return the last message."""
        try:
            while True:
                self.hear()
        except ConnectionClosed:
            return self.heard[-1]

    @property
    def events(self) -> Any:
        parts = [
            unpack(message["data"], message["t_base_us"])
            for message in self.heard
            if message["type"] == "events"
        ]
        return np.concatenate(parts)


@contextmanager
def watching(server: Any, session: str, query: str = "", **options: Any) -> Iterator:
    url = watch_url(server, session, query)
    with connect(url, compression=None, max_size=None, **options) as socket:
        yield Watcher(socket)


def refusal(server: Any, session: str, query: str = "", **options: Any) -> Any:
    url = watch_url(server, session, query)
    with pytest.raises(InvalidStatus) as caught, connect(url, **options):
        pass
    answer = caught.value.response
    return answer.status_code, json.loads(answer.body)["code"]


@pytest.fixture
def guarded(serve: Any) -> Any:
    return serve(keys=LINES, snapshot_s=0.05)


def test_a_watcher_is_shown_events_and_scores_and_the_end(server: Any) -> None:
    events = some_events(400)
    with server.client() as client:
        opened = client.open(report=Report("flush"))
        with watching(server, opened.session) as watcher:
            first = watcher.hear()
            assert first["type"] == "watching"
            assert (first["session"], first["model"]) == (opened.session, "toy")
            assert first["sensor"] == first["model_sensor"] == [4, 4]
            assert first["labels"] == opened.labels
            client.send(events)
            closed = client.finish()
            last = watcher.finish()
            assert watcher.socket.close_code == 1000
    assert last == {"type": "ended", "reason": "closed"}
    assert watcher.events.tolist() == events.tolist()
    newest = [each for each in watcher.heard if each["type"] == "result"][-1]
    assert newest["ticks"] == closed.ticks
    assert newest["logits"] == pytest.approx(closed.logits)
    assert newest["logits"][0] == pytest.approx(event_scores(events)[-1])
    assert newest["label"] == closed.label


def test_watching_changes_nothing_for_the_session_that_is_watched(server: Any) -> None:
    def answers(*, watched: bool) -> list[Any]:
        with server.client() as client, ExitStack() as stack:
            opened = client.open()
            if watched:
                stack.enter_context(watching(server, opened.session))
            for k in range(20):
                client.send(some_events(31, seed=k, start_us=1000 * k))
            client.say(Flush(7))
            client.finish()
            return client.heard

    def content(messages: list[Any]) -> list[Any]:
        return [
            (type(m), m.ticks, m.t_us, m.logits, m.label)
            for m in messages
            if isinstance(m, (Result, Closed))
        ]

    assert content(answers(watched=True)) == content(answers(watched=False))


def test_a_watcher_may_ask_for_text_and_for_fewer_events(server: Any) -> None:
    with server.client() as client:
        opened = client.open()
        query = "?form=json&max_events_per_s=40"
        with watching(server, opened.session, query) as watcher:
            assert watcher.hear()["max_events_per_s"] == 40
            client.send(some_events(1000))
            shown = watcher.hear_until("events")
            data = base64.b64decode(shown["data"])
            assert 0 < len(data) // 8 <= 11
            assert shown["of"] <= 1000
            client.finish()


def test_a_reset_is_shown_before_what_follows_it(server: Any) -> None:
    with server.client() as client:
        opened = client.open()
        with watching(server, opened.session) as watcher:
            client.send(some_events(40, start_us=10**9))
            watcher.hear_until("result", ticks=20)
            client.say(Reset(1))
            client.hear_until(WasReset)
            watcher.hear_until("reset")
            client.send(some_events(6))
            assert watcher.hear_until("events")["t_base_us"] == 0
            assert watcher.hear_until("result", ticks=3)["events"] == 6
            client.finish()


def test_a_session_whose_client_is_lost_is_away_and_may_be_watched_again(
    serve: Any,
) -> None:
    server = serve(snapshot_s=0.05)
    with client_of(server.base) as client:
        opened = client.open()
        with watching(server, opened.session) as watcher:
            watcher.hear()
            client.socket.socket.close()
            assert watcher.finish() == {"type": "ended", "reason": "away"}
    assert refusal(server, opened.session) == (404, "unknown_session")
    with client_of(server.base) as again:
        again.say(Open("toy", resume=opened.resume))
        again.hear_until(Opened)
        with watching(server, opened.session) as watcher:
            again.send(some_events(4))
            assert watcher.hear_until("result")["ticks"] == 2
            again.say(Close())
            watcher.finish()


def test_own_sessions_are_watched_and_those_of_others_by_operators_only(
    guarded: Any,
) -> None:
    with client_of(guarded.base, additional_headers=bearer("ann")) as client:
        session = client.open().session
        assert refusal(guarded, session) == (401, "unauthorized")
        unknown = (404, "unknown_session")
        assert refusal(guarded, session, additional_headers=bearer("bob")) == unknown
        for name in ("ann", "olga"):
            headers = {"additional_headers": bearer(name)}
            with watching(guarded, session, **headers) as watcher:
                assert watcher.hear()["session"] == session
            answer = httpx.post(guarded.base + "/v1/tickets", headers=bearer(name))
            query = f"?ticket={answer.json()['ticket']}"
            with watching(guarded, session, query) as watcher:
                assert watcher.hear()["session"] == session
            assert refusal(guarded, session, query) == (401, "unauthorized")
        client.finish()


def test_pages_of_other_origins_may_not_watch(server: Any) -> None:
    with server.client() as client:
        session = client.open().session
        refused = refusal(server, session, origin="https://elsewhere.example")
        assert refused == (403, "origin_refused")
        client.finish()


def test_watching_can_be_turned_off(serve: Any) -> None:
    server = serve(no_watch=True)
    with server.client() as client:
        session = client.open().session
        assert refusal(server, session) == (403, "watching_off")
        client.finish()


def test_what_cannot_be_watched_is_refused_in_words(server: Any) -> None:
    assert refusal(server, "nobody") == (404, "unknown_session")
    for query in ("?max_events_per_s=0", "?max_events_per_s=x", "?form=xml"):
        assert refusal(server, "nobody", query) == (422, "invalid_field")
    answer = httpx.get(server.base + "/v1/sessions/nobody/watch")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")


def test_a_session_has_a_bounded_number_of_watchers(server: Any) -> None:
    with server.client() as client, ExitStack() as stack:
        session = client.open().session
        for _ in range(MOST_OF_A_SESSION - 1):
            stack.enter_context(watching(server, session))
        with watching(server, session):
            assert refusal(server, session) == (429, "too_many_watchers")
        wait_until(lambda: server.service.metrics.watchers._value.get() == 7)
        with watching(server, session) as watcher:
            assert watcher.hear()["type"] == "watching"
        client.finish()


def test_a_watcher_that_does_not_read_holds_nothing_up(server: Any) -> None:
    with server.client() as client:
        session = client.open().session
        with watching(server, session, "?max_events_per_s=500000") as stuck:
            for k in range(100):
                client.send(some_events(2000, seed=k, start_us=20_000 * k))
            closed = client.finish()
            assert closed.events == 200_000
            stuck.socket.socket.close()


def test_what_a_watcher_sends_is_ignored(server: Any) -> None:
    with server.client() as client:
        session = client.open().session
        with watching(server, session) as watcher:
            watcher.socket.send("hello")
            watcher.socket.send(b"\x00" * 1000)
            client.send(some_events(2))
            assert watcher.hear_until("result")["ticks"] == 1
        client.finish()


def test_a_client_may_watch_what_is_not_its_own_only_while_it_sees_it(
    guarded: Any,
) -> None:
    with client_of(guarded.base, additional_headers=bearer("bob")) as client:
        assert isinstance(client, Client)
        session = client.open().session
        with watching(guarded, session, additional_headers=bearer("olga")) as watcher:
            watcher.hear()
            httpx.delete(f"{guarded.base}/v1/sessions/{session}", headers=bearer("bob"))
            assert watcher.finish() == {"type": "ended", "reason": "closed"}

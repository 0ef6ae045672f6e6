"""What a server logs about its clients: whose session, in one line a kind."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from saccade.server.logs import JOURNAL
from saccade.server.logs.bound import Bound
from saccade.server.logs.formats import JsonFormat
from saccade.server.protocol.messages import EventsFrame, Open
from saccade.server.transport.auth import digest_of, new_key
from tests.toy import some_events, wait_until
from tests.transport.conftest import Server, serving

KEY = new_key()
BEARER = {"Authorization": f"Bearer {KEY}"}
HOSTILE = "x\n\x1b[31m\u202eforged"


class Written(logging.Handler):
    """The lines of a process's log, as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormat(""))
        self.addFilter(Bound())
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(self.format(record))

    def of(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.text]
        return [each for each in found if each["event"] == event]


@pytest.fixture
def written() -> Iterator[Written]:
    log, handler = JOURNAL.parent, Written()
    assert log is not None
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler
    log.removeHandler(handler)
    log.setLevel(before)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(keys=(f"robot:{digest_of(KEY)}",)) as running:
        yield running


def test_each_line_about_a_session_names_it_and_its_key(
    server: Server, written: Written
) -> None:
    with server.client(additional_headers=BEARER) as client:
        name = client.open().session
        client.send(some_events(4))
        client.finish()
    with server.client(additional_headers=BEARER) as client:
        other = client.open().session
        client.say(EventsFrame(7, b"", t_base_us=0))
        assert client.close_code() != 1000
    wait_until(lambda: len(written.of("session_left")) == 2)
    opened, refused = written.of("session_opened"), written.of("refused")
    assert [each["session"] for each in opened] == [name, other]
    assert [each["session"] for each in refused] == [other]
    left = {each["session"]: each["code"] for each in written.of("session_left")}
    assert left[name] == 1000 != left[other]
    lines = [json.loads(line) for line in written.text]
    assert {each["key"] for each in lines if "session" in each} == {"robot"}
    assert KEY not in "".join(written.text)


def test_who_has_no_key_is_named_by_its_address_and_cannot_fill_the_log(
    server: Server, written: Written
) -> None:
    unknown = {"Authorization": "Bearer no"}
    with httpx.Client(base_url=server.base, headers=unknown) as client:
        for number in range(50):
            path = f"/v1/sessions/{number}{quote(HOSTILE)}"
            assert client.get(path).status_code == 401
    with pytest.raises(InvalidStatus), server.client():
        pass
    (refused,) = written.of("refused")
    assert (refused["code"], refused["address"]) == ("unauthorized", "127.0.0.1")
    assert refused["what"] == f"GET /v1/sessions/0{HOSTILE}"
    assert "key" not in refused


def test_a_model_s_name_from_a_client_is_quoted_safely(
    server: Server, written: Written
) -> None:
    with server.client(additional_headers=BEARER) as client:
        client.say(Open(HOSTILE))
        assert client.close_code() != 1000
    (refused,) = written.of("refused")
    assert refused["key"] == "robot"
    assert "session" not in refused
    assert all(line.isprintable() and line.isascii() for line in written.text)


def test_a_request_s_key_is_in_its_refusal(server: Server, written: Written) -> None:
    answer = httpx.get(server.base + "/v1/sessions/none", headers=BEARER)
    assert answer.status_code == 404
    (refused,) = written.of("refused")
    assert (refused["key"], refused["code"]) == ("robot", "unknown_session")

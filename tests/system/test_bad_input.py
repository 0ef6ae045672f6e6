"""What one client does wrong does not show in the scores of another."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import httpx
import msgpack
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from saccade.clients.commands.server_process import ServerProcess
from saccade.model.events.encodings.packed import pack
from saccade.model.events.types import Events
from tests.system.offline import deviation, filmed
from tests.wire import client_of

UNDISTURBED = 1e-6
"""Largest error allowed, relative to the largest score: batches differ in shape."""

OPEN = {"type": "open", "model": "nmnist"}
CLOSE = {"type": "close"}
HEADERS = {"Content-Type": "application/json"}


def record(t_us: int, x: int, y: int, p: int) -> bytes:
    return struct.pack("<II", t_us, p << 31 | y << 16 | x)


def frame(seq: int, **fields: Any) -> dict[str, Any]:
    return {"type": "events", "seq": seq, **fields}


def packed(events: Events, seq: int) -> dict[str, Any]:
    return frame(seq, data=pack(events, 0))


class Fatal(NamedTuple):
    """What ends a session, each message already as bytes or text."""

    code: str
    close_code: int
    says: list[bytes | str]
    facts: dict[str, Any]


def fatal(code: str, close_code: int, *says: Any, **facts: Any) -> Fatal:
    return Fatal(
        code,
        close_code,
        [msgpack.packb(each) if isinstance(each, dict) else each for each in says],
        facts,
    )


FATAL = {
    "an unknown model": fatal(
        "unknown_model", 4404, {**OPEN, "model": "other"}, field="model", value="other"
    ),
    "a version to come": fatal(
        "unsupported_protocol", 1002, {**OPEN, "protocol": 2}, field="protocol", value=2
    ),
    "a sensor of another size": fatal(
        "sensor_mismatch", 4409, {**OPEN, "sensor": [640, 480]}, field="sensor"
    ),
    "events before open": fatal("unexpected_message", 1002, frame(1, data=b"")),
    "a second open": fatal("unexpected_message", 1002, OPEN, OPEN),
    "a skipped frame": fatal("sequence_gap", 1002, OPEN, frame(2, data=b""), seq=2),
    "a truncated open": fatal("malformed_message", 1007, msgpack.packb(OPEN)[:-3]),
    "a truncated frame": fatal(
        "malformed_message", 1007, OPEN, msgpack.packb(frame(1, data=bytes(80)))[:-9]
    ),
    "a seq that is text": fatal(
        "invalid_field", 1007, OPEN, frame("1", data=b""), field="seq", value="1"
    ),
    "a NaN in JSON": fatal(
        "invalid_field",
        1007,
        '{"type":"open","model":"nmnist",'
        '"readout":{"window":"half_life","half_life_ms":NaN}}',
        field="readout.half_life_ms",
        value="nan",
    ),
    "an oversize frame": fatal(
        "frame_too_large", 1009, OPEN, bytes((1 << 20) + 1), value=(1 << 20) + 1
    ),
}  # fmt: skip

GOOD = record(0, 1, 1, 0)
REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a length of no whole records": (
        "malformed_events", {"data": bytes(13)}, {"field": "data"}
    ),
    "data of another type": (
        "invalid_field", {"data": [1, 2, 3]}, {"field": "data"}
    ),
    "a time that is a float": (
        "invalid_field", {"data": GOOD, "t_base_us": 1.5},
        {"field": "t_base_us", "value": 1.5},
    ),
    "no data": ("invalid_field", {}, {"field": "data"}),
    "an x beyond the sensor": (
        "event_outside_sensor", {"data": 2 * GOOD + record(0, 34, 1, 0)},
        {"index": 2, "field": "x", "value": 34},
    ),
    "a y beyond the sensor": (
        "event_outside_sensor", {"data": GOOD + record(0, 33, 700, 1)},
        {"index": 1, "field": "y", "value": 700},
    ),
    "time that runs backwards": (
        "unsorted_events", {"data": record(9, 1, 1, 1) + GOOD, "t_base_us": 200_000},
        {"index": 1, "field": "t", "value": 200_000},
    ),
    "time before the last frame's": (
        "unsorted_events", {"data": GOOD}, {"index": 0, "field": "t", "value": 0}
    ),
}  # fmt: skip

COLUMNS = {"t": [0, 1, 2], "x": [1, 2, 3], "y": [1, 2, 3], "p": [0, 1, 0]}


def asked(*recordings: Any, model: str = "nmnist") -> str:
    return json.dumps({"model": model, "recordings": recordings})


REQUESTS: dict[str, tuple[str, int, str, dict[str, Any]]] = {
    "an unknown model": (
        "unknown_model", 404, asked(COLUMNS, model="x"), {"field": "model"}
    ),
    "an empty batch": ("empty_batch", 422, asked(), {"field": "recordings"}),
    "a NaN": (
        "invalid_field", 422, asked(COLUMNS, {**COLUMNS, "t": [0, float("nan"), 1]}),
        {"field": "recordings[1].t", "index": 1, "value": "nan"},
    ),
    "columns of different lengths": (
        "invalid_field", 422, asked({**COLUMNS, "x": [1]}), {"field": "recordings[0]"}
    ),
    "a y beyond the sensor": (
        "event_outside_sensor", 422, asked(COLUMNS, {**COLUMNS, "y": [0, 0, 34]}),
        {"recording": 1, "index": 2, "field": "y", "value": 34},
    ),
    "time that runs backwards": (
        "unsorted_events", 422, asked({**COLUMNS, "t": [0, 5, 4]}),
        {"recording": 0, "index": 2, "value": 4},
    ),
    "a truncated body": ("malformed_body", 400, asked(COLUMNS)[:-2], {}),
    "a body beyond all bounds": ("body_too_large", 413, " " * ((1 << 25) + 1), {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def events() -> Events:
    return filmed("nmnist")[:6_400]


@pytest.fixture(scope="module")
def undisturbed(server: ServerProcess, events: Events) -> list[float]:
    """What the events score on a server that nobody else uses."""
    with client_of(server.url) as client:
        client.open("nmnist")
        client.send(events)
        logits = client.finish().logits
    assert logits is not None
    return logits


@pytest.fixture
def bystander(
    server: ServerProcess, events: Events, undisturbed: list[float]
) -> Iterator[None]:
    """Somebody who has sent half of a recording, and sends the rest after the test."""
    half = len(events) // 2
    with client_of(server.url) as client:
        client.open("nmnist")
        client.send(events[:half])
        yield
        client.send(events[half:])
        closed = client.finish()
    assert deviation(closed.logits, undisturbed) <= UNDISTURBED
    assert httpx.get(f"{server.url}/healthz").json()["status"] == "ok"
    assert httpx.get(f"{server.url}/readyz").json()["status"] == "ok"


class Offender:
    """A websocket that sends whatever it is given."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.close_code: int | None = None

    def say(self, message: Any) -> None:
        self._socket.send(
            msgpack.packb(message) if isinstance(message, dict) else message
        )

    def heard(self) -> list[dict[str, Any]]:
        """Hear everything to the end."""
        messages = []
        with suppress(ConnectionClosed):
            while True:
                data = self._socket.recv(timeout=300)
                text = isinstance(data, str)
                messages.append(json.loads(data) if text else msgpack.unpackb(data))
        self.close_code = self._socket.close_code
        return messages


@contextmanager
def offender(server: ServerProcess) -> Iterator[Offender]:
    address = server.url.replace("http", "ws") + "/v1/stream"
    with connect(address, compression=None, max_size=None) as socket:
        yield Offender(socket)


def told(messages: list[dict[str, Any]]) -> dict[str, Any]:
    (error,) = [message for message in messages if message["type"] == "error"]
    return error


def offend(server: ServerProcess, offence: Fatal) -> None:
    with offender(server) as client:
        for message in offence.says:
            client.say(message)
        error = told(client.heard())
        assert (error["code"], error["fatal"]) == (offence.code, True)
        assert error.items() >= offence.facts.items()
        assert client.close_code == offence.close_code


def offend_and_go_on(
    server: ServerProcess, events: Events, undisturbed: list[float], name: str
) -> None:
    code, fields, facts = REFUSED[name]
    half = len(events) // 2
    with offender(server) as client:
        client.say({**OPEN, "report": {"every": "flush"}})
        client.say(packed(events[:half], 1))
        client.say(frame(2, **fields))
        client.say(packed(events[half:], 3))
        client.say(CLOSE)
        messages = client.heard()
    error = told(messages)
    assert (error["code"], error["fatal"], error["seq"]) == (code, False, 2)
    assert error.items() >= facts.items()
    assert messages[-1]["type"] == "closed"
    assert messages[-1]["seq"] == 3
    assert deviation(messages[-1]["logits"], undisturbed) <= UNDISTURBED


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("name", FATAL)
def test_what_cannot_go_on_ends_that_session_alone(server, name):
    offend(server, FATAL[name])


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_frame_leaves_its_own_session_as_it_was(
    server, events, undisturbed, name
):
    offend_and_go_on(server, events, undisturbed, name)


@pytest.mark.usefixtures("bystander")
def test_an_empty_frame_is_no_offence(server, events, undisturbed):
    with offender(server) as client:
        client.say(OPEN)
        client.say(frame(1, data=b""))
        client.say(packed(events, 2))
        client.say(frame(3, data=b""))
        client.say(CLOSE)
        closed = client.heard()[-1]
    assert deviation(closed["logits"], undisturbed) <= UNDISTURBED


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("name", REQUESTS)
def test_a_bad_request_is_a_problem_that_names_the_place(server, name):
    code, status, body, facts = REQUESTS[name]
    url = f"{server.url}/v1/classify"
    answer = httpx.post(url, content=body, headers=HEADERS, timeout=300)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.status_code) == (code, status)
    assert answer.json().items() >= facts.items()


@contextmanager
def going_on(*offences: Callable[[], None]) -> Iterator[None]:
    """Commit each offence again and again meanwhile, in a thread of its own."""
    failures: list[BaseException] = []
    over = threading.Event()

    def keep(offending: Callable[[], None]) -> None:
        try:
            while not over.is_set():
                offending()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=keep, args=(each,)) for each in offences]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_all_of_it_at_once_changes_nobodys_scores(server, events, undisturbed):
    def end_sessions() -> None:
        for offence in FATAL.values():
            offend(server, offence)

    def have_frames_refused() -> None:
        for name in REFUSED:
            offend_and_go_on(server, events, undisturbed, name)

    with (
        going_on(end_sessions, end_sessions, have_frames_refused),
        client_of(server.url) as client,
    ):
        client.open("nmnist")
        for start in range(0, len(events), 64):
            client.send(events[start : start + 64])
            time.sleep(0.01)
        closed = client.finish()
    assert deviation(closed.logits, undisturbed) <= UNDISTURBED
    assert httpx.get(f"{server.url}/healthz").json()["status"] == "ok"

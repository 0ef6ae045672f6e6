"""The client and the dialogue of docs/protocol.md work against a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.system.offline import TOLERANCE, deviation, filmed, scanned

PAGE = Path(__file__).parents[2].joinpath("docs", "protocol.md").read_text("utf-8")
CLIENT = re.search(
    r'^```python title="client"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL
)
BY_HAND = re.search(r"^By hand.*?^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
EVT3_EVENTS = 343_474


@pytest.fixture(scope="module")
def url(server) -> str:
    return server.url.replace("http", "ws") + "/v1/stream"


@pytest.fixture(scope="module")
def events():
    return filmed("nmnist")


class Raw:
    """A client written from the page alone."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def send(self, kind: str, **fields: Any) -> None:
        self._socket.send(msgpack.packb({"type": kind, **fields}))

    def receive_until(self, kind: str) -> dict[str, Any]:
        while (message := msgpack.unpackb(self._socket.recv(30)))["type"] != kind:
            assert message["type"] in {"result", "ack"}, message
        return message


@contextmanager
def raw(url: str) -> Iterator[Raw]:
    with connect(url, compression=None) as socket:
        yield Raw(socket)


def test_the_whole_client_of_the_page_gets_the_right_scores(url, events, capsys):
    assert CLIENT
    page: dict[str, Any] = {}
    exec(compile(CLIENT[1], "docs/protocol.md", "exec"), page)
    closed = page["classify"](url, "nmnist", events.tolist(), frame=1000, window=3000)
    assert deviation(closed["logits"], scanned("nmnist", events)) <= TOLERANCE
    assert closed["events"] + closed["pending"] == len(events)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split()[1] == closed["label"]


def test_the_conversation_by_hand_goes_as_the_page_says(url):
    assert BY_HAND
    with connect(url, compression=None) as socket:
        for line in BY_HAND[1].splitlines():
            if line.startswith("> "):
                socket.send(line[2:])
            else:
                assert socket.recv(30).startswith(line[2:].removesuffix("…"))


def test_flush_and_reset_do_what_the_page_says(url, events):
    half = len(events) // 2
    records = np.empty(len(events), [("t", "<u4"), ("x", "<u2"), ("yp", "<u2")])
    records["t"], records["x"] = events["t"], events["x"]
    records["yp"] = events["y"] | events["p"].astype("<u2") << 15
    with raw(url) as client:
        client.send("open", model="nmnist", report={"every": "flush"})
        tick_events = client.receive_until("opened")["tick_events"]
        client.send("events", seq=1, data=records[:half].tobytes())
        client.send("flush", id=7)
        flushed = client.receive_until("flushed")
        client.send("reset", id=8)
        assert client.receive_until("reset") == {"type": "reset", "id": 8}
        client.send("events", seq=2, data=records.tobytes())
        client.send("close")
        closed = client.receive_until("closed")
    assert (flushed["id"], flushed["seq"]) == (7, 1)
    assert (flushed["ticks"], flushed["pending"]) == divmod(half, tick_events)
    assert (closed["ticks"], closed["pending"]) == divmod(len(events), tick_events)
    assert closed["t_us"] == events["t"][closed["events"] - 1]
    assert deviation(flushed["logits"], scanned("nmnist", events[:half])) <= TOLERANCE
    assert deviation(closed["logits"], scanned("nmnist", events)) <= TOLERANCE


def test_a_cameras_own_bytes_are_all_decoded(url, shared):
    words = (shared / "recordings" / "evt3_640x480.raw").read_bytes()
    while words.startswith(b"%"):
        words = words.partition(b"\n")[2]
    opening = {"encoding": "evt3", "sensor": [640, 480], "fit": "scale"}
    report = {"every": "flush"}
    with raw(url) as client:
        client.send("open", model="nmnist", report=report, **opening)
        window = client.receive_until("opened")["window_bytes"]
        acked = 0
        for seq, start in enumerate(range(0, len(words), 1 << 15), 1):
            piece = words[start : start + (1 << 15)]
            while start + len(piece) - acked > window:
                acked = client.receive_until("ack")["bytes"]
            client.send("events", seq=seq, t_base_us=0, data=piece)
        client.send("close")
        closed = client.receive_until("closed")
    assert closed["events"] + closed["pending"] == EVT3_EVENTS

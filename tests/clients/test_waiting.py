"""`--wait-s` waits for a server that is about to serve, and for no other."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from saccade.clients.commands import stream
from saccade.clients.commands.cli import classify
from saccade.clients.commands.waiting import POLL_S, wait_until_ready
from saccade.clients.errors import ServerUnavailable, ServerUnreachable

NOBODY = "ws://127.0.0.1:9"


class Starting(http.server.BaseHTTPRequestHandler):
    """Is ready at the third time that it is asked."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        ready = self.asked > 2
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(json.dumps({"reason": "" if ready else "loading"}).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


@pytest.fixture
def starting() -> Iterator[str]:
    Starting.asked = 0
    server = http.server.HTTPServer(("127.0.0.1", 0), Starting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"ws://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Clock:
    """Time that passes in sleep alone."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def time_s(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_server_that_loads_its_models_is_waited_for(starting: str) -> None:
    clock = Clock()
    wait_until_ready(starting, 60, clock.time_s, clock.sleep)
    assert clock.now_s == 2 * POLL_S


def test_a_server_that_is_not_ready_in_time_is_an_error_with_its_reason(
    starting: str,
) -> None:
    clock = Clock()
    with pytest.raises(ServerUnavailable, match="loading"):
        wait_until_ready(starting, POLL_S / 2, clock.time_s, clock.sleep)
    assert Starting.asked == 2


def test_a_server_that_never_answers_is_waited_for_so_long_and_no_longer() -> None:
    clock = Clock()
    with pytest.raises(ServerUnreachable):
        wait_until_ready(NOBODY, 3, clock.time_s, clock.sleep)
    assert clock.now_s == 3


def test_nobody_waits_who_does_not_ask_for_it() -> None:
    wait_until_ready(NOBODY, None)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf"])
def test_a_wait_is_a_number_of_seconds(text: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        stream.parser().parse_args(["a.raw", "--wait-s", text])
    assert "no number of seconds above 0" in capsys.readouterr().err


def test_a_command_waits_before_it_reads_or_sends(
    starting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["missing.bin", "--model", "m", "--url", starting, "--wait-s", "60"]
    assert classify(words) == 1
    assert Starting.asked == 3
    assert "missing.bin" in capsys.readouterr().err

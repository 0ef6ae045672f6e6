"""However a server ends, it ends whole: no process, no port, no half-written file."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosedError

from saccade.clients import http
from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.errors import ServerUnreachable
from saccade.server.protocol.messages import GoAway
from tests.system.offline import CHECKPOINTS, TOLERANCE, deviation, filmed, scanned
from tests.wire import client_of

DRAIN_S = 2.0
MARGIN_S = 120.0
"""How long a test waits for the rest of a stop: no claim, only the end of a hang."""


@pytest.fixture
def own() -> Iterator[ServerProcess]:
    """A server of the test's own, ready."""
    served = ["--model", str(CHECKPOINTS / "nmnist"), "--buckets", "1x1,4x4"]
    with ServerProcess([*served, "--drain-s", str(DRAIN_S)]) as process:
        process.wait_until_ready(lambda text: None)
        yield process


def send(process: ServerProcess, number: signal.Signals) -> tuple[int, float]:
    """Return the exit status after a signal, and how long the end took, in s."""
    running: subprocess.Popen[bytes] = process._process
    started_s = time.monotonic()
    running.send_signal(number)
    status = running.wait(DRAIN_S + MARGIN_S)
    return status, time.monotonic() - started_s


def process_group_exists(leader: int) -> bool:
    """Return whether a process is left of a server, which leads a group of its own."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def assert_nothing_is_left_of(process: ServerProcess) -> None:
    deadline_s = time.monotonic() + MARGIN_S  # the processes of a killed one follow it
    while process_group_exists(process._process.pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    port = urlsplit(process.url).port
    with socket.create_server(("127.0.0.1", port or 0)):
        pass


@pytest.fixture
def _native_code_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let servers keep native code where they keep the rest."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "native"))


def compiling(folder: Path) -> ServerProcess:
    """Return a server that has everything still to compile."""
    return ServerProcess(["--compiled", str(folder), "--drain-s", str(DRAIN_S)])


def wait_until_it_answers(process: ServerProcess) -> None:
    while True:
        try:
            ready, _ = http.readiness(process.url)
        except ServerUnreachable:
            time.sleep(0.05)
        else:
            assert not ready
            return


def test_on_sigterm_sessions_finish_and_the_server_ends_by_itself(own):
    events = filmed("nmnist")
    with client_of(own.url) as client:
        client.open("nmnist")
        client.send(events)
        own._process.send_signal(signal.SIGTERM)
        assert client.hear_until(GoAway).reconnect_after_ms > 0
        closed = client.finish()
    assert own._process.wait(MARGIN_S) == 0
    assert deviation(closed.logits, scanned("nmnist", events)) <= TOLERANCE
    assert "Traceback" not in own.log()
    assert_nothing_is_left_of(own)


def test_a_client_that_stays_does_not_keep_a_server_that_leaves(own):
    with client_of(own.url) as client:
        client.open("nmnist")
        status, took_s = send(own, signal.SIGTERM)
        assert client.close_code() in {1001, 1012}
    assert status == 0
    assert took_s >= DRAIN_S / 2  # a loop of libuv counts from when its turn began
    assert "Traceback" not in own.log()
    assert_nothing_is_left_of(own)


def test_sigkill_leaves_nothing_and_a_client_hears_of_it_at_once(own):
    with client_of(own.url) as client:
        client.open("nmnist")
        client.send(filmed("nmnist"))
        status, _ = send(own, signal.SIGKILL)
        with pytest.raises(ConnectionClosedError):
            client.finish()
    assert status == -signal.SIGKILL
    assert_nothing_is_left_of(own)


@pytest.mark.slow
@pytest.mark.usefixtures("_native_code_too")
def test_sigterm_while_it_compiles_ends_a_server_too(tmp_path):
    with compiling(tmp_path) as process:
        wait_until_it_answers(process)
        time.sleep(1)
        status, _ = send(process, signal.SIGTERM)
        assert status == 0
        assert_nothing_is_left_of(process)


@pytest.mark.slow
@pytest.mark.usefixtures("_native_code_too")
def test_what_a_kill_left_half_written_does_not_hinder_the_next_start(tmp_path):
    with compiling(tmp_path) as process:
        process.wait_until_ready(lambda text: None)
        send(process, signal.SIGKILL)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    events = filmed("nmnist")
    with compiling(tmp_path) as process:
        process.wait_until_ready(lambda text: None)
        with client_of(process.url) as client:
            client.open("nmnist")
            client.send(events)
            closed = client.finish()
    assert deviation(closed.logits, scanned("nmnist", events)) <= TOLERANCE


def kept_in(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return when each file of compiled code was written, and its size.

    Which backend is faster is written whenever that was measured.
    """
    found = [path for path in folder.rglob("*") if path.is_file()]
    files = [path for path in found if not path.name.startswith("backend-")]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


@pytest.mark.slow
@pytest.mark.usefixtures("_native_code_too")
def test_what_one_process_compiles_the_next_one_finds_from_any_folder(
    tmp_path, monkeypatch
):
    for part in ("compiled", "elsewhere"):
        (tmp_path / part).mkdir()
    compiled = tmp_path / "compiled"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(compiled / "native"))
    with compiling(compiled) as process:
        process.wait_until_ready(lambda text: None)
    kept = kept_in(compiled)
    kinds = {path.suffix for path in kept if path.parent != compiled}
    assert {".nbi", ".nbc"} <= kinds
    assert any(path.name.endswith("-cache") for path in kept)
    monkeypatch.chdir(tmp_path / "elsewhere")
    said: list[str] = []
    with compiling(compiled) as process:
        process.wait_until_ready(said.append)
    assert kept_in(compiled) == kept
    assert not any("%" in text for text in said), "no process compiled native code"

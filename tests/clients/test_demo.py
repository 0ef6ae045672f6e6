"""The whole demonstration, as `make demo` runs it, on an untrained model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from saccade.model.events.simulator.scenes import MOTIONS
from tests.clients.untrained import save_untrained
from tests.own_folder import make_own_folder

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def heeded_interrupts():
    """Undo what a shell does to what it runs in the background: children inherit it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    path = tmp_path_factory.mktemp("untrained") / "motions"
    save_untrained(path, "motions", MOTIONS, 128)
    return {**os.environ, "SACCADE_MODELS": str(path), "SACCADE_BUCKETS": "1x8"}


def begin(environment, *arguments, folder=None):
    return subprocess.Popen(
        [sys.executable, "-m", "saccade", "demo", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def children(pid):
    """Return the processes that a process has started."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_the_demonstration_shows_everything_and_ends_well(environment, tmp_path):
    folder = make_own_folder(tmp_path)
    demo = begin(environment, "--seconds", "2", "--seed", "1", folder=folder)
    out, _ = demo.communicate(timeout=300)
    assert demo.returncode == 0, out
    for expected in (
        "ready in", "Streaming sim:motions", "events/s", "label", "latency",
        "Classifying 9 fresh scenes", "counter-clockwise", "Throughput, from /metrics",
        "nothing is left running",
    ):  # fmt: skip
        assert expected in out
    assert out.rstrip().endswith("http://127.0.0.1:8000/")


def test_the_server_and_its_page_can_be_left_running(environment):
    demo = begin(environment, "--seconds", "1", "--open")
    lines = iter(demo.stdout.readline, "")
    address = next(line.split()[1] for line in lines if "in a browser" in line)
    assert "<!doctype html>" in httpx.get(address).text.lower()
    demo.send_signal(signal.SIGINT)
    out, _ = demo.communicate(timeout=300)
    assert demo.returncode == 0, out
    assert "nothing is left running" in out
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the server under /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_server_behind(environment, number):
    demo = begin(environment, "--seconds", "60")
    deadline_s = time.monotonic() + 300
    while not (servers := children(demo.pid)) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    time.sleep(3)
    demo.send_signal(number)
    demo.communicate(timeout=300)
    assert demo.returncode == 130
    assert servers
    assert not [pid for pid in servers if Path(f"/proc/{pid}").exists()]


def test_a_server_that_cannot_start_ends_the_demonstration_with_its_log(environment):
    broken = {**environment, "SACCADE_MODELS": "/nowhere/at/all"}
    demo = begin(broken)
    out, _ = demo.communicate(timeout=300)
    assert demo.returncode == 1
    assert "/nowhere/at/all" in out

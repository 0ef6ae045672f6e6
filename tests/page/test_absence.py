"""The page before a server that is away, comes back, or comes back as another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from saccade.model.events.simulator.camera import simulate
from tests.page.conftest import Visit, choose_file, visiting

pytestmark = pytest.mark.slow

ABSENT = ["ERR_CONNECTION", "ERR_EMPTY", "Failed to load", "WebSocket", "503"]
"""What the browser itself says of a server that is away."""
AWAY_MS = 30_000
BACK_MS = 300_000


class Mortal:
    """A `saccade serve` on one port, to be killed and started again."""

    def __init__(self, *arguments: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "saccade", "serve"]
        self._command += ["--port", f"{port}", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        """Start it; it loads its models meanwhile."""
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """End it without a last word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def mortal(*arguments: str) -> Iterator[Mortal]:
    server = Mortal(*arguments)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def open_while_it_loads(visit: Visit, server: Mortal) -> Page:
    """Open the page as soon as the port is taken, and wait for the models."""
    for _ in range(600):
        try:
            page = visit.open(f"{server.url}/")
            break
        except Exception:  # the port is not taken yet
            time.sleep(0.1)
    expect(page.locator("#model option").first).to_be_attached(timeout=BACK_MS)
    return page


def expect_health(page: Page, state: str, timeout: float) -> None:
    health = page.locator("#health")
    expect(health).to_have_attribute("data-state", state, timeout=timeout)


def expect_scores(page: Page) -> None:
    expect(page.locator("#label")).not_to_have_text("–", timeout=BACK_MS)


def test_a_recording_outlives_the_kill_of_its_server(
    page: Page, browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "left.npy"
    np.save(path, simulate("left", seed=3, duration_us=4_000_000))
    uncut = final_scores(page, path)
    with (
        mortal("--store-path", f"{tmp_path / 'store.sqlite'}") as server,
        visiting(browser, server.url, allowed=ABSENT) as visit,
    ):
        cut = final_scores(open_while_it_loads(visit, server), path, server)
    assert cut == uncut
    assert cut.startswith("left")


def final_scores(page: Page, path: Path, killed: Mortal | None = None) -> str:
    """Play a file, whose server may be killed meanwhile; return what is shown last."""
    choose_file(page, path)
    expect(page.locator("#title")).to_contain_text(path.name)
    speed = page.get_by_label("Speed")
    speed.select_option(label="a tenth")  # it is not over before the kill
    expect_scores(page)
    if killed:
        killed.kill()
        expect_health(page, "unavailable", AWAY_MS)
        expect(page.locator("#message")).to_contain_text("trying to come back")
        killed.start()
    speed.select_option(label="as fast as scored")
    expect(page.locator("#events-shown")).to_have_attribute(
        "data-finished", "true", timeout=BACK_MS
    )
    expect_health(page, "ok", AWAY_MS)
    expect(page.locator("#message")).to_be_hidden()
    reconnects = page.locator("#figures dd").last
    expect(reconnects).to_have_text("1" if killed else "0")
    label, confidence = page.locator("#label"), page.locator("#confidence")
    return f"{label.inner_text()} {confidence.inner_text()}"


def test_a_live_source_begins_anew_with_a_server_that_knows_nothing_of_it(
    browser: Browser, tmp_path: Path
) -> None:
    hook = "import saccade\nsaccade.__version__ = '9.9.9'\n"
    (tmp_path / "sitecustomize.py").write_text(hook)
    with (
        mortal("--store", "memory") as server,
        visiting(browser, server.url, allowed=ABSENT) as visit,
    ):
        page = open_while_it_loads(visit, server)
        expect_scores(page)
        server.kill()
        expect_health(page, "unavailable", AWAY_MS)
        paths = os.pathsep.join([f"{tmp_path}", *sys.path])
        server.start(PYTHONPATH=paths)
        expect_health(page, "ok", BACK_MS)
        expect(page.locator("#health")).to_contain_text("Saccade 9.9.9")
        expect(page.locator("#health")).to_contain_text("reload it")
        message = page.locator("#message")
        expect(message).to_contain_text("a new one has begun", timeout=BACK_MS)
        page.get_by_role("button", name="Simulated camera").click()
        expect(message).to_be_hidden()
        expect_scores(page)


def test_a_watched_session_is_shown_again_once_its_server_is_back(
    browser: Browser, tmp_path: Path
) -> None:
    with (
        mortal("--store-path", f"{tmp_path / 'store.sqlite'}") as server,
        visiting(browser, server.url, allowed=ABSENT) as visit,
    ):
        watched = open_while_it_loads(visit, server)
        expect_scores(watched)
        watcher = visit.open(f"{server.url}/#source=watch")
        watcher.locator("#panel button").first.click()
        expect(watcher.locator("#title")).to_contain_text("session", timeout=AWAY_MS)
        expect_scores(watcher)
        server.kill()
        message = watcher.locator("#message")
        expect(message).to_contain_text("trying again", timeout=AWAY_MS)
        server.start()
        expect(message).to_be_hidden(timeout=BACK_MS)
        expect_scores(watcher)
        expect(watched.locator("#message")).to_be_hidden(timeout=BACK_MS)


def test_a_link_to_a_session_that_has_ended_says_so(page: Page) -> None:
    address = page.url.split("#")[0]
    expect_scores(page)
    page.goto("about:blank")
    page.goto(f"{address}#source=watch&session=gone")
    expect(page.locator("#message")).to_contain_text("No session gone runs here")

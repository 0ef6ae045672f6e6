"""A real Chromium before a real server.

A message on the browser's console, an exception of the page, or a request that leaves
the server's origin fails the test in which it happened.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Playwright,
    Request,
    sync_playwright,
)

from saccade.clients.commands.server_process import ServerProcess

REPOSITORY = Path(__file__).parents[2]
SCREENSHOTS = REPOSITORY / "outputs" / "screenshots"

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",  # composed on the CPU: through GL it shows 5 pictures a second
    "--enable-unsafe-swiftshader",  # WebGL on the CPU
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """`saccade serve` with the released models."""
    with ServerProcess() as process:
        process.wait_until_ready(lambda text: None)
        yield process


@contextmanager
def chromium(driver: Playwright, arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Start Chromium without a window, or skip the test where it is missing."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium here (apt install chromium, or set CHROMIUM)")
    browser = driver.chromium.launch(
        executable_path=executable, args=[*FLAGS, *arguments]
    )
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def driver() -> Iterator[Playwright]:
    """What starts browsers; a process has one."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(driver: Playwright) -> Iterator[Browser]:
    with chromium(driver) as started:
        yield started


@dataclass
class Watched:
    """What the pages of a browser context must not do, and did.

    Attributes:
        origin: The only one that requests may go to.
        faults: A sentence for each console error, exception and foreign request.
        allowed: Parts of faults that the test expects.
    """

    origin: str
    faults: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def observe(self, context: BrowserContext) -> None:
        context.on("console", lambda message: self._console(message.type, message.text))
        context.on("weberror", lambda error: self.faults.append(f"{error.error}"))
        context.on("request", self._request)

    def _console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"} and not is_software_gl(text):
            self.faults.append(f"console {kind}: {text}")

    def _request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in {"blob", "data"}:
            return
        if f"{url.scheme}://{url.netloc}" != self.origin:
            self.faults.append(f"a request left the origin: {request.url}")

    def unexpected(self) -> list[str]:
        return [
            fault
            for fault in self.faults
            if not any(part in fault for part in self.allowed)
        ]


def is_software_gl(text: str) -> bool:
    """Return whether Chromium merely says that it draws in software."""
    return "swiftshader" in text.lower() or "GL Driver Message" in text


@dataclass
class Visit:
    """A browser context, with what it must not do under watch."""

    context: BrowserContext
    watched: Watched

    def open(self, url: str) -> Page:
        page = self.context.new_page()
        page.goto(url)
        return page


@contextmanager
def visiting(
    browser: Browser, origin: str, *, allowed: Sequence[str] = (), **options: Any
) -> Iterator[Visit]:
    """Open a fresh browser context; fail on what its pages must not do."""
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    watched = Watched(origin, allowed=[*allowed])
    watched.observe(context)
    try:
        yield Visit(context, watched)
    finally:
        context.close()
    assert not watched.unexpected()


@pytest.fixture
def visit(browser: Browser, server: ServerProcess) -> Iterator[Visit]:
    """A desktop visitor of the server, with nothing in storage."""
    with visiting(browser, server.url) as visitor:
        yield visitor


@pytest.fixture
def page(visit: Visit, server: ServerProcess) -> Page:
    """The page at `/`, opened by a desktop visitor."""
    return visit.open(f"{server.url}/")


def choose_file(page: Page, path: Path) -> None:
    """Choose a recording, as a visitor does who drops it."""
    page.locator("#file").set_input_files(path)


@pytest.fixture(scope="session")
def screenshots() -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS

"""The page at `/`, as a visitor sees it: on a desk and a phone, dark and light."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from saccade.clients.commands.server_process import ServerProcess
from tests.page.conftest import DESKTOP, PHONE, REPOSITORY, chromium, visiting

pytestmark = pytest.mark.slow

AXE = REPOSITORY / "clients" / "web" / "node_modules" / "axe-core" / "axe.min.js"
LOOKS = [(DESKTOP, "dark"), (DESKTOP, "light"), (PHONE, "dark"), (PHONE, "light")]


def scored(page: Page) -> None:
    """Wait until the demonstration has been scored."""
    expect(page.locator("#label")).not_to_have_text("–", timeout=30_000)


@pytest.mark.parametrize(("viewport", "scheme"), LOOKS)
def test_a_first_visit_sees_motions_named_at_every_size_and_colour(
    browser: Browser,
    server: ServerProcess,
    screenshots: Path,
    viewport: dict[str, int],
    scheme: str,
) -> None:
    options: dict[str, Any] = {"viewport": viewport, "color_scheme": scheme}
    with visiting(browser, server.url, **options) as visit:
        page = visit.open(f"{server.url}/")
        scored(page)
        page.wait_for_timeout(5_000)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= viewport["width"]
        name = f"{viewport['width']}-{scheme}.png"
        page.screenshot(path=screenshots / name, full_page=True)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_no_serious_fault(
    browser: Browser, server: ServerProcess, scheme: str
) -> None:
    if not AXE.exists():
        pytest.skip("needs `npm ci` in clients/web")
    with visiting(browser, server.url, color_scheme=scheme, bypass_csp=True) as visit:
        page = visit.open(f"{server.url}/")
        scored(page)
        page.locator("#server summary").click()
        expect(page.locator("#models td").first).to_be_visible()
        page.add_script_tag(path=AXE)
        found = page.evaluate("axe.run()")
    serious = [
        (fault["id"], [node["html"] for node in fault["nodes"]])
        for fault in found["violations"]
        if fault["impact"] in {"serious", "critical"}
    ]
    assert serious == []


def test_the_keyboard_pauses_and_steps_back(page: Page) -> None:
    scored(page)
    page.locator("#stage").focus()
    page.keyboard.press("Space")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#scrub")).to_be_enabled()
    before = float(page.locator("#scrub").input_value())
    for _ in range(10):
        page.keyboard.press(",")
    assert float(page.locator("#scrub").input_value()) < before
    page.keyboard.press("Space")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "false")


def test_a_share_link_brings_back_model_source_and_decay(
    page: Page, server: ServerProcess
) -> None:
    scored(page)
    page.locator("#model").select_option("nmnist")
    page.locator("#decay").fill("120")
    expect(page.locator("#decay-ms")).to_have_text("120 ms")
    page.locator("#share").click()
    address = page.url
    assert "key" not in address
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#model")).to_have_value("nmnist")
    expect(page.locator("#decay-ms")).to_have_text("120 ms")


def test_a_key_is_asked_for_once_and_kept_in_the_tab(
    browser: Browser, tmp_path: Path
) -> None:
    digest = hashlib.sha256(b"open sesame").hexdigest()
    keys = tmp_path / "keys"
    keys.write_text(f"visitor:{digest}\n")
    with ServerProcess(["--keys-file", f"{keys}"]) as server:
        server.wait_until_ready(lambda text: None)
        with visiting(browser, server.url) as visit:
            visit.watched.allowed = ["401"]
            page = visit.open(f"{server.url}/")
            page.locator("#key").fill("wrong")
            page.keyboard.press("Enter")
            expect(page.locator("#message")).to_contain_text("does not know")
            page.locator("#key").fill("open sesame")
            page.keyboard.press("Enter")
            scored(page)
            assert "sesame" not in page.url
            page.reload()
            scored(page)
            kept = page.evaluate("[localStorage.length, sessionStorage.length]")
            assert kept == [0, 1]


def test_a_session_of_another_program_is_watched(
    page: Page, server: ServerProcess, browser: Browser
) -> None:
    scored(page)
    with visiting(browser, server.url) as visit:
        other = visit.open(f"{server.url}/#source=watch")
        button = other.locator("#panel button").first
        button.click()
        expect(other.locator("#title")).to_contain_text("session", timeout=30_000)
        scored(other)
        expect(other.locator("#message")).to_be_hidden()


def test_it_is_drawn_by_webgl_where_there_is_one_and_else_without(
    driver: Playwright, server: ServerProcess
) -> None:
    for arguments in (["--use-angle=swiftshader"], ["--disable-3d-apis"]):
        with (
            chromium(driver, arguments) as started,
            visiting(started, server.url) as visit,
        ):
            page = visit.open(f"{server.url}/")
            scored(page)
            shown = page.locator("#events").screenshot()
            assert len(shown) > 1_000  # not one colour


def test_page_and_sdk_stay_small() -> None:
    web = REPOSITORY / "clients" / "web"
    files = [*web.glob("*.js"), *(web / "page").rglob("*.*")]
    assert sum(path.stat().st_size for path in files) < 200_000

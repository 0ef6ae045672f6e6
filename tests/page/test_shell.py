"""The page at `/`, as a visitor sees it: on a desk and a phone, dark and light."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from benchmarks.page import heap_mib
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


def test_the_picture_of_the_readme_shows_every_class_over_time(
    browser: Browser, server: ServerProcess, screenshots: Path
) -> None:
    look: dict[str, Any] = {"viewport": {"width": 1200, "height": 1000}}
    with visiting(browser, server.url, **look, color_scheme="dark") as visit:
        page = visit.open(f"{server.url}/")
        scored(page)
        page.wait_for_timeout(12_000)  # the timeline's whole span
        page.screenshot(path=screenshots / "readme.png")  # `make picture` takes it
        assert page.locator("#classes li").count() == 9
        expect(page.locator("#message")).to_be_hidden()


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


def test_a_link_says_what_it_cannot_hold(page: Page, server: ServerProcess) -> None:
    message = page.locator("#message")
    for fragment, sentence in {
        "source=file&recording=7.bin": "of a recording, 7.bin, which no link can hold",
        "model=gone&source=simulated": "This server has no model gone",
    }.items():
        page.goto("about:blank")
        page.goto(f"{server.url}/#{fragment}")
        expect(message).to_contain_text(sentence)
        scored(page)
        expect(page.locator("#title")).to_contain_text("simulated camera")


def test_a_link_that_is_pasted_into_the_same_tab_is_followed(page: Page) -> None:
    scored(page)
    page.evaluate("location.hash = '#model=nmnist&source=simulated'")
    expect(page.locator("#model")).to_have_value("nmnist")


def test_a_page_of_a_name_that_the_server_does_not_trust_says_what_to_do(
    driver: Playwright, server: ServerProcess
) -> None:
    name = "camera.example"
    url = server.url.replace("127.0.0.1", name)
    arguments = [f"--host-resolver-rules=MAP {name} 127.0.0.1"]
    allowed = ["403", "WebSocket", "Cross-Origin-Opener-Policy"]  # without TLS
    with (
        chromium(driver, arguments) as started,
        visiting(started, url, allowed=allowed) as visit,
    ):
        message = visit.open(f"{url}/").locator("#message")
        expect(message).to_contain_text(f"--origins {url}")
        expect(message).to_contain_text("saccade key")


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


HIDE_SOFTWARE = """
  const own = WebGL2RenderingContext.prototype.getExtension;
  WebGL2RenderingContext.prototype.getExtension = function (name) {
    return name === "WEBGL_debug_renderer_info" ? null : own.call(this, name);
  };
"""
"""What draws WebGL is not told: taken for a graphics processor."""
DRAWN = """async () => {
  const { EventView } = await import("./web/page/view.js");
  const canvas = document.createElement("canvas");
  const view = new EventView(canvas);
  view.setSensor({ width: 40, height: 30 });
  const n = 3000, t = new Float64Array(n), x = [], y = [], p = [];
  for (let i = 0; i < n; i++) {
    t[i] = 3.6e9 + 100 * i; // an hour after the first event
    x.push((7 * i) % 37);
    y.push((11 * i) % 29);
    p.push(((7 * i) >> 3) & 1);
  }
  view.add({ t: [0], x: [39], y: [29], p: [1] });
  view.add({ t, x, y, p });
  const colors = { on: "#5bb8ff", off: "#ff8a4c", empty: "#0a0d10" };
  view.draw(t[n - 1], 40, colors);
  const copy = new OffscreenCanvas(40, 30).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, 40, 30);
  return [view.renderer.accelerated, [...data]];
}"""


def test_the_same_is_drawn_by_webgl_where_a_processor_has_it_and_else_without(
    driver: Playwright, server: ServerProcess
) -> None:
    drawn = {}
    for hidden in (True, False):
        with (
            chromium(driver, ["--use-angle=swiftshader"]) as started,
            visiting(started, server.url) as visit,
        ):
            if hidden:
                visit.context.add_init_script(HIDE_SOFTWARE)
            page = visit.open(f"{server.url}/")
            scored(page)
            assert len(page.locator("#events").screenshot()) > 1_000  # not one colour
            accelerated, pixels = page.evaluate(DRAWN)
            assert accelerated == hidden
            drawn[hidden] = np.reshape(pixels, (30, 40, 4)).astype(int)
    assert np.abs(drawn[True] - drawn[False]).max() <= 2
    assert len(np.unique(drawn[True].reshape(-1, 4), axis=0)) > 100
    assert (drawn[True][29, 39] == drawn[True][29, 38]).all()  # long faded


def test_the_memory_of_a_live_page_comes_back_to_what_it_was(page: Page) -> None:
    scored(page)
    cdp = page.context.new_cdp_session(page)
    page.wait_for_timeout(14_000)  # the history is as long as it gets

    def sample() -> float:
        page.wait_for_timeout(4_000)
        return heap_mib(cdp)

    # The history's size follows the scene's activity: up to 14 MiB between two samples.
    before = max(sample() for _ in range(3))
    page.wait_for_timeout(40_000)  # kept for ever, these events would take 20 MiB
    after: list[float] = []
    while not after or (after[-1] > before and len(after) < 15):
        after.append(sample())
    assert after[-1] <= before, (before, after)


def test_page_and_sdk_stay_small() -> None:
    web = REPOSITORY / "clients" / "web"
    files = [*web.glob("*.js"), *(web / "page").rglob("*.*")]
    assert sum(path.stat().st_size for path in files) < 200_000

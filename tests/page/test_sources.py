"""The page's sources before real models: what is drawn, dropped or filmed is named."""

from __future__ import annotations

import math
import subprocess
import time
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from saccade.clients.commands.server_process import ServerProcess
from saccade.model.events.recordings import open_recording
from tests.page.conftest import PHONE, choose_file, chromium, visiting

pytestmark = pytest.mark.slow

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "recordings"
DIGITS = Path(__file__).parents[2].parent / "shared" / "nmnist-small" / "Test"
STROKES = 10
STEP_S = 0.01
STROKE_S = 0.8
DRAG = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
TURNED = {"clockwise": 1, "counter-clockwise": -1}
ZOOMED = {"expanding": (0.12, 0.9), "contracting": (0.9, 0.12)}


Place: TypeAlias = tuple[float, float]


def way_of(motion: str) -> tuple[str, list[Place]]:
    """Return how to drag, and the pointer's way in half sides from the centre."""
    parts = np.linspace(0, 1, 101)
    if motion in DRAG:
        right, down = DRAG[motion]
        ways = 1.6 * parts - 0.8
        way = [(right * part, down * part) for part in ways.tolist()]
        return "move", way
    if motion in TURNED:
        angles = TURNED[motion] * 2.0 * parts
        return "turn", [(0.7 * math.cos(a), 0.7 * math.sin(a)) for a in angles.tolist()]
    begin, end = ZOOMED[motion]
    radii = begin * (end / begin) ** parts
    return "zoom", [(radius, 0.0) for radius in radii.tolist()]


COLLECT = """() => {
  window.labelsSeen = [];
  const label = document.getElementById("label");
  const note = () => window.labelsSeen.push(label.textContent);
  new MutationObserver(note).observe(label, { childList: true });
}"""


class Mouse:
    """A pointer that draws in the mode which the page's buttons choose."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def way(self, motion: str) -> list[list[Place]]:
        drag, way = way_of(motion)
        self._page.get_by_role("button", name=f"Drag: {drag}").click()
        return [[place] for place in way]

    def press(self, places: list[Place]) -> None:
        self._page.mouse.move(*places[0])
        self._page.mouse.down()

    def move(self, places: list[Place]) -> None:
        self._page.mouse.move(*places[0])

    def release(self) -> None:
        self._page.mouse.up()


class Fingers:
    """One finger that drags, or two that spread."""

    def __init__(self, page: Page) -> None:
        self._cdp = page.context.new_cdp_session(page)

    def way(self, motion: str) -> list[list[Place]]:
        drag, way = way_of(motion)
        if drag == "move":
            return [[place] for place in way]
        return [[(right, 0.0), (-right, 0.0)] for right, _ in way]

    def press(self, places: list[Place]) -> None:
        for count in range(len(places)):
            self._touch("touchStart", places[: count + 1])

    def move(self, places: list[Place]) -> None:
        self._touch("touchMove", places)

    def release(self) -> None:
        self._touch("touchEnd", [])

    def _touch(self, kind: str, places: list[Place]) -> None:
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        event = {"type": kind, "touchPoints": points}
        self._cdp.send("Input.dispatchTouchEvent", event)


def draw(page: Page, hand: Mouse | Fingers, motion: str) -> list[str]:
    """Draw a motion once; return the labels that the page showed meanwhile."""
    way = hand.way(motion)
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    assert box is not None
    half, x, y = box["width"] / 2, box["x"], box["y"]
    steps = [[(x + half * (1 + a), y + half * (1 + b)) for a, b in at] for at in way]
    page.evaluate("window.labelsSeen.length = 0")
    hand.press(steps[0])
    began_s = time.monotonic()
    while (part := (time.monotonic() - began_s) / STROKE_S) < 1:  # on any machine
        hand.move(steps[int(part * len(steps))])
        time.sleep(STEP_S)
    hand.release()
    seen: list[str] = page.evaluate("window.labelsSeen")
    return seen


@pytest.mark.parametrize("motion", [*DRAG, *TURNED, *ZOOMED])
def test_a_drawn_motion_is_named(page: Page, motion: str) -> None:
    expect_named(page, Mouse(page), motion)


@pytest.mark.parametrize("motion", ["left", "expanding"])
def test_a_motion_drawn_by_fingers_on_a_phone_is_named(
    browser: Browser, server: ServerProcess, motion: str
) -> None:
    phone = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
    with visiting(browser, server.url, **phone) as visit:
        page = visit.open(f"{server.url}/")
        expect_named(page, Fingers(page), motion)


def expect_named(page: Page, hand: Mouse | Fingers, motion: str) -> None:
    """Draw a motion until the page names it."""
    expect(page.locator("#label")).not_to_have_text("–", timeout=30_000)
    page.locator("#stage").click()  # ends the demonstration
    expect(page.locator("#label")).to_have_text("still", timeout=30_000)
    page.evaluate(COLLECT)
    read: list[str] = []
    for _ in range(STROKES):
        seen = draw(page, hand, motion)
        named = [label for label in seen if label != "still"]
        if named and named[-1] == motion:
            return
        read += seen
        page.get_by_role("button", name="New picture").click()
    raise AssertionError(f"{motion} was drawn, and read as {read}")


@pytest.mark.parametrize("digit", [0, 3, 7])
def test_a_dropped_digit_is_read(page: Page, digit: int) -> None:
    folder = DIGITS / str(digit)
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    right = 0
    for path in sorted(folder.iterdir())[:3]:
        choose_file(page, path)
        expect(page.locator("#title")).to_contain_text(f"{path.name} · N-MNIST")
        page.get_by_label("Speed").select_option(label="as fast as scored")
        expect(page.locator("#events-shown")).to_have_attribute(
            "data-finished", "true", timeout=60_000
        )
        right += page.locator("#label").inner_text() == str(digit)
    assert right >= 2
    assert page.locator("#model").input_value() == "nmnist"


def test_a_file_of_evt3_is_played_and_scaled(page: Page) -> None:
    path = RECORDINGS / "evt3_640x480.raw"
    if not path.exists():
        pytest.skip(f"no {path}")
    choose_file(page, path)
    expect(page.locator("#title")).to_contain_text("EVT3, 640 × 480")
    expect(page.locator("#fitted")).to_contain_text("128 × 128")
    expect(page.locator("#label")).not_to_have_text("–", timeout=30_000)
    expect(page.locator("#message")).to_be_hidden()


def test_a_file_that_the_page_does_not_read_is_scored_by_the_server(
    page: Page,
) -> None:
    path = RECORDINGS / "dvxplorer_320x240.aedat4"
    if not path.exists():
        pytest.skip(f"no {path}")
    with page.expect_response("**/v1/classify", timeout=120_000) as answered:
        choose_file(page, path)
    (scored,) = answered.value.json()["results"]
    expect(page.locator("#title")).to_contain_text(
        f"{path.name} · read by the server, 320 × 240"
    )
    expect(page.locator("#guide")).to_contain_text(f"{scored['events']:,} events")
    expect(page.locator("#note")).to_contain_text("not played")
    expect(page.locator("#events-shown")).to_have_attribute("data-finished", "true")
    expect(page.locator("#label")).to_have_text(scored["label"])
    confidence = f"{100 * scored['confidence']:.0f} % confident"
    expect(page.locator("#confidence")).to_have_text(confidence)
    expect(page.locator("#message")).to_be_hidden()
    page.get_by_role("button", name="Simulated camera").click()
    expect(page.locator("#title")).to_contain_text("simulated camera")


def test_a_file_that_is_no_recording_gets_a_sentence(
    page: Page, tmp_path: Path
) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>.aedat4"
    path.write_bytes(b"#!AER-DAT4.0\r\n")
    choose_file(page, path)
    message = page.locator("#message")
    expect(message).not_to_contain_text("It is sent to the server", timeout=60_000)
    expect(message).to_contain_text(path.name)
    assert page.locator("#message img").count() == 0


def film(path: Path) -> None:
    """Write a film of a texture that moves to the left, as raw YUV pictures."""
    rng = np.random.default_rng(0)
    # So coarse that a busy machine, which leaves pictures out, sees the motion too.
    coarse = rng.integers(30, 226, (8, 30)).astype(np.uint8)
    wide = np.kron(coarse, np.ones((32, 32), np.uint8))[:240]
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W320 H240 F60:1 Ip A1:1 C420jpeg\n")
        for frame in range(180):
            picture = wide[:, 3 * frame : 3 * frame + 320]
            file.write(b"FRAME\n" + picture.tobytes() + bytes([128]) * (160 * 120 * 2))


def test_a_webcam_shows_a_motion(
    driver: Playwright, server: ServerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "left.y4m"
    film(path)
    arguments = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={path}",
    )
    with chromium(driver, arguments) as browser, visiting(browser, server.url) as visit:
        page = visit.open(f"{server.url}/")
        page.get_by_role("button", name="Webcam").click()
        expect(page.locator("#note")).to_contain_text("emulated")
        expect(page.locator("#label")).to_have_text("left", timeout=60_000)


def test_readers_of_the_page_read_as_those_of_python(tmp_path: Path) -> None:
    names = ["evt2_640x480.raw", "evt3_640x480.raw", "ncars_sample_td.dat"]
    names += ["nmnist_sample.bin", "dvs_320x240.es"]
    if not (RECORDINGS / names[0]).exists():
        pytest.skip(f"no {RECORDINGS}")
    reader = Path(__file__).parents[2] / "clients" / "web" / "page" / "readers"
    for name in names:
        out = tmp_path / name
        program = f"""
            import {{ readEvents }} from "{reader}/readers.js";
            import {{ readFileSync, writeFileSync }} from "node:fs";
            const file = readFileSync("{RECORDINGS / name}");
            const [from, size] = [file.byteOffset, file.length];
            const bytes = file.buffer.slice(from, from + size);
            const {{ t, x, y, p }} = readEvents("{name}", bytes).events;
            writeFileSync("{out}", Buffer.concat([t, x, y, p].map((c) =>
              Buffer.from(c.buffer, c.byteOffset, c.byteLength))));
        """
        subprocess.run(["node", "--input-type=module", "-e", program], check=True)
        events = np.concatenate([*open_recording(RECORDINGS / name).events])
        n, data = len(events), out.read_bytes()
        assert np.array_equal(np.frombuffer(data, "<f8", n), events["t"])
        assert np.array_equal(np.frombuffer(data, "<u2", n, 8 * n), events["x"])
        assert np.array_equal(np.frombuffer(data, "<u2", n, 10 * n), events["y"])
        assert np.array_equal(np.frombuffer(data, "u1", n, 12 * n), events["p"])

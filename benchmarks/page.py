"""Benchmark of the page: pictures a second, and memory, at a rate of events.

    python -m benchmarks.page [--seconds S] [--json PATH]

A real server and a headless Chromium, which composes and draws on the CPU: a machine
with a GPU shows more. The page's own code runs, fed with random events in place of a
source, so that the picture, the history and the session have the whole rate to carry.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

from saccade.clients.benchmark.machine import machine
from saccade.clients.commands.server_process import ServerProcess

RATES: Final = (0, 200_000, 2_000_000)
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--enable-precise-memory-info",
    "--js-flags=--expose-gc",
)
FEED: Final = """async ([rate, seconds]) => {
  const { EventView, Recent } = await import("./web/page/view.js");
  const canvas = document.createElement("canvas");
  const view = new EventView(canvas), recent = new Recent();
  view.setSensor({ width: 640, height: 480 });
  view.fit(640, 480);
  document.getElementById("frame").replaceChildren(canvas);
  const colors = { on: "#5bb8ff", off: "#ff8a4c", empty: "#0a0d10" };
  const pool = 1 << 20;
  const random = (kind, most) =>
    kind.from({ length: pool }, () => Math.random() * most);
  const [x, y] = [random(Uint16Array, 640), random(Uint16Array, 480)];
  const p = random(Uint8Array, 2);
  const begin = performance.now();
  let sent = 0, frames = 0, t_us = 0;
  await new Promise((resolve) => {
    const frame = () => {
      const now = performance.now() - begin;
      const n = Math.min(pool / 2, Math.floor((rate * now) / 1000) - sent);
      if (n > 0) {
        const gap = (1000 * now - t_us) / n, from = sent % (pool / 2), to = from + n;
        const t = new Float64Array(n);
        for (let i = 0; i < n; i++) t[i] = t_us + i * gap;
        const part = (column) => column.slice(from, to);
        const events = { t, x: part(x), y: part(y), p: part(p) };
        [sent, t_us] = [sent + n, 1000 * now];
        recent.add(events);
        view.add(events);
      }
      view.draw(t_us, 40, colors);
      frames += 1;
      if (now < 1000 * seconds) requestAnimationFrame(frame);
      else resolve(null);
    };
    frame();
  });
  const elapsed_s = (performance.now() - begin) / 1000;
  globalThis.gc?.();
  return {
    rate, accelerated: view.accelerated, frames_per_s: frames / elapsed_s,
    events_per_s: sent / elapsed_s,
    heap_mib: performance.memory.usedJSHeapSize / 2 ** 20,
  };
}"""


def measure(page: Page, rate: int, seconds: float) -> dict[str, Any]:
    """Feed events at a rate for so many seconds; return what was shown."""
    found: dict[str, Any] = page.evaluate(FEED, [rate, seconds])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args(argv)
    with ServerProcess() as server, sync_playwright() as driver:
        server.wait_until_ready(lambda text: None)
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(FLAGS)
        )
        rows = []
        for rate in RATES:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"{server.url}/")
            rows.append(measure(page, rate, options.seconds))
            page.close()
        browser.close()
    table = Table(title="the page's picture, 640×480, beside its live session")
    for heading in ("events/s", "drawn", "pictures/s", "WebGL", "heap, MiB"):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = (row["rate"], row["events_per_s"], row["frames_per_s"])
        texts = (f"{figure:,.0f}" for figure in figures)
        drawn_by = "yes" if row["accelerated"] else "no"
        table.add_row(*texts, drawn_by, f"{row['heap_mib']:.0f}")
    Console().print(table)
    if options.json:
        written = {"machine": machine(), "cases": rows}
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

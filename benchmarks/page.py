"""Benchmark of the page: pictures a second, where the time goes, and memory.

    python -m benchmarks.page [--seconds S] [--rate R] [--minutes M] [--json PATH]

A real server and a headless Chromium, which composes and draws on the CPU: a machine
with a GPU shows more. A recording of noise of a rate, 640×480, is dropped on the page
and played at the speed of the scene, so that picture, history, session and server carry
the whole rate; 0 events/s is the page's own demonstration. `--minutes` plays one again
and again instead, and reads the memory that is in use after each collection of garbage.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
from playwright.sync_api import CDPSession, Page, sync_playwright
from rich.console import Console
from rich.table import Table

from benchmarks.comparison import end_comparison
from benchmarks.processes import resident_mib, thread_times_s
from benchmarks.serve_cases import checkpoint_of
from saccade.clients.benchmark.machine import machine
from saccade.clients.commands.server_process import ServerProcess

MODEL: Final = "motions"
RATES: Final = (0, 200_000, 2_000_000)
MEMORY_RATE: Final = 200_000
SAMPLE_S: Final = 10.0
WARM_UP_S: Final = 2.0
BUSIEST: Final = 6
FLAGS: Final = ("--no-sandbox", "--disable-gpu")
COUNT: Final = """
  window.pictures = 0;
  for (const [prototype, name] of [
    [CanvasRenderingContext2D.prototype, "putImageData"],
    [WebGL2RenderingContext.prototype, "drawArrays"],
  ]) {
    const own = prototype[name];
    prototype[name] = function (...given) {
      window.pictures += 1;
      return own.apply(this, given);
    };
  }
"""
"""Counts the pictures that the event view draws; the timeline calls neither."""
DROP: Final = """([rate, seconds, width, height]) => {
  const count = rate * seconds, record = 13;
  const bytes = new Uint8Array(128 + count * record);
  const view = new DataView(bytes.buffer);
  const names = "[('t', '<i8'), ('x', '<u2'), ('y', '<u2'), ('p', '|u1')]";
  const header = `{'descr': ${names}, 'fortran_order': False, 'shape': (${count},), }`;
  bytes.set([0x93, 78, 85, 77, 80, 89, 1, 0, 118, 0]);
  bytes.set(new TextEncoder().encode(header.padEnd(117) + "\\n"), 10);
  for (let i = 0, at = 128; i < count; i++, at += record) {
    view.setUint32(at, Math.floor((i * 1e6) / rate), true);
    view.setUint16(at + 8, Math.random() * width, true);
    view.setUint16(at + 10, Math.random() * height, true);
    bytes[at + 12] = Math.random() * 2;
  }
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "noise.npy"));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
}"""
FRAMES: Final = """(seconds) => new Promise((resolve) => {
  const [begin, drawn] = [performance.now(), window.pictures];
  let frames = 0;
  const frame = () => {
    frames += 1;
    const elapsed_s = (performance.now() - begin) / 1000;
    if (elapsed_s < seconds) requestAnimationFrame(frame);
    else resolve([frames / elapsed_s, (window.pictures - drawn) / elapsed_s]);
  };
  requestAnimationFrame(frame);
})"""


class Row(NamedTuple):
    """One case; `cpu` is the busiest threads' share of a core."""

    rate: int
    taken_per_s: float
    frames_per_s: float
    pictures_per_s: float
    cpu: dict[str, float]


class Sample(NamedTuple):
    """Memory in use after a collection of garbage, MiB."""

    at_s: float
    heap_mib: float
    resident_mib: float


def heap_mib(cdp: CDPSession) -> float:
    """Collect a page's garbage; return what is left, columns of events included."""
    cdp.send("HeapProfiler.collectGarbage")
    found = cdp.send("Runtime.getHeapUsage")
    parts = ("usedSize", "embedderHeapUsedSize", "backingStorageSize")
    total: float = sum(found.get(part, 0) for part in parts)
    return total / 2**20


class Browser:
    """A headless Chromium with one page, and its processes."""

    def __init__(self, server: ServerProcess, page: Page) -> None:
        self._server = server
        self.page = page
        self._cdp = page.context.new_cdp_session(page)
        browser = page.context.browser
        assert browser is not None
        self._whole = browser.new_browser_cdp_session()

    def _processes(self) -> dict[int, str]:
        found = self._whole.send("SystemInfo.getProcessInfo")["processInfo"]
        return {process["id"]: process["type"] for process in found}

    def _cpu_s(self) -> dict[str, float]:
        """Return the CPU time so far of each thread, named by its process."""
        times: dict[str, float] = defaultdict(float)
        named = {**self._processes(), self._server.pid: "server"}
        for pid, kind in named.items():
            for thread, spent_s in thread_times_s(pid).items():
                if thread.process == pid:
                    main = thread.thread == thread.process
                    times[f"{kind}: {'main' if main else thread.name}"] += spent_s
        return times

    def _taken(self) -> int:
        answer = httpx.get(f"{self._server.url}/v1/overview").raise_for_status()
        return sum(session["events"] for session in answer.json()["sessions"])

    def measure(self, rate: int, seconds: float) -> Row:
        """Play noise of a rate, and return what was shown of it."""
        if rate:
            self.page.evaluate(DROP, [rate, seconds + WARM_UP_S + 2, 640, 480])
        self.page.wait_for_timeout(1e3 * WARM_UP_S)
        before, taken, began_s = self._cpu_s(), self._taken(), time.monotonic()
        frames, pictures = self.page.evaluate(FRAMES, seconds)
        spent, taken_after = self._cpu_s(), self._taken()
        elapsed_s = time.monotonic() - began_s
        shares = {name: (own - before[name]) / elapsed_s for name, own in spent.items()}
        cpu = dict(sorted(shares.items(), key=lambda item: -item[1])[:BUSIEST])
        return Row(rate, (taken_after - taken) / elapsed_s, frames, pictures, cpu)

    def memory(self, minutes: float) -> Iterator[Sample]:
        """Play noise again and again; yield the memory in use every few seconds."""
        self.page.evaluate(DROP, [MEMORY_RATE, 20, 640, 480])
        again = self.page.get_by_role("button", name="From the beginning")
        began_s = time.monotonic()
        while time.monotonic() - began_s < 60 * minutes:
            self.page.wait_for_timeout(1e3 * SAMPLE_S)
            if self.page.locator("#events-shown").inner_text():
                again.click()
            at_s = time.monotonic() - began_s
            yield Sample(at_s, heap_mib(self._cdp), self._resident_mib())

    def _resident_mib(self) -> float:
        kinds = self._processes().items()
        return sum(resident_mib(pid) for pid, kind in kinds if kind == "renderer")


@contextmanager
def opened() -> Iterator[Browser]:
    """Start a server, and open its page."""
    arguments = ["--model", f"{checkpoint_of(MODEL)}"]
    with ServerProcess(arguments) as server, sync_playwright() as driver:
        server.wait_until_ready(lambda text: None)
        end_comparison(server.pid)
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(FLAGS)
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.add_init_script(COUNT)
        page.goto(f"{server.url}/")
        page.locator("#model option").first.wait_for(state="attached")
        yield Browser(server, page)
        browser.close()


def show(rows: Sequence[Row]) -> None:
    """Print what the cases came to."""
    table = Table(title="the page, 640×480, with its session and its server")
    for heading in ("events/s", "taken", "frames/s", "pictures/s"):
        table.add_column(heading, justify="right")
    table.add_column("busiest threads, cores")
    for row in rows:
        figures = (row.rate, row.taken_per_s, row.frames_per_s, row.pictures_per_s)
        cpu = ", ".join(f"{name} {share:.2f}" for name, share in row.cpu.items())
        table.add_row(*(f"{figure:,.0f}" for figure in figures), cpu)
    Console().print(table)


def show_memory(samples: Sequence[Sample]) -> None:
    """Print how memory went on after the first minute, or the first sample."""
    settled = [one for one in samples if one.at_s >= 60] or samples
    times = [one.at_s / 60 for one in settled]
    for name in ("heap_mib", "resident_mib"):
        values = [getattr(one, name) for one in settled]
        slope = statistics.linear_regression(times, values).slope
        print(
            f"{name}: {values[0]:.1f} at first, {values[-1]:.1f} at last, "
            f"{min(values):.1f} to {max(values):.1f}, {slope:+.2f} a minute"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S")
    parser.add_argument("--rate", type=int, metavar="R", help="so many events/s only")
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="memory instead, so long"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write it here")
    options = parser.parse_args(argv)
    written: dict[str, Any] = {"machine": machine()}
    if options.minutes:
        with opened() as browser:
            samples = list(browser.memory(options.minutes))
        show_memory(samples)
        written["memory"] = [sample._asdict() for sample in samples]
    else:
        rows = []
        for rate in RATES if options.rate is None else [options.rate]:
            with opened() as browser:
                rows.append(browser.measure(rate, options.seconds))
        show(rows)
        written["cases"] = [row._asdict() for row in rows]
    if options.json:
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

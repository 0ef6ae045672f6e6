"""Compiled ingest reads and writes nothing outside its buffers, whatever a frame says.

Damaged frames go through `Conversation.read` twice: 100,000 into the code that serves,
with buffers that end at inaccessible pages, and fewer into code with numba's own check
of every index, with buffers that begin at such pages.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="without numba, NumPy takes the frames")
pytest.importorskip("resource", reason="pages are protected as POSIX does it")

ROOT = Path(__file__).parents[3]
DAMAGED = 100_000
CHECKED = 20_000


def guarded(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program; its process dies where the code reads outside a buffer."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "tests.server.protocol.guarded_ingest", *options],
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def taken(ended: subprocess.CompletedProcess[str]) -> int:
    """Return how many frames the compiled code took part in."""
    assert ended.returncode == 0, ended.stderr
    counts = re.findall(r"(\d+) by compiled code", ended.stdout)
    return int(counts[0])


def test_no_damaged_frame_is_read_outside_its_buffers() -> None:
    assert taken(guarded("--frames", "1000")) >= 1000


def test_a_read_behind_a_buffer_would_end_the_process() -> None:
    ended = guarded("--short-table")
    assert ended.returncode == -signal.SIGSEGV


@pytest.mark.slow
def test_none_of_100_000_damaged_frames_is_read_outside_its_buffers() -> None:
    assert taken(guarded("--frames", str(DAMAGED))) >= DAMAGED


@pytest.mark.slow
def test_numba_finds_every_index_inside_its_buffer(tmp_path: Path) -> None:
    check = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    frames = ("--frames", str(CHECKED), "--edge", "start", "--seed", "13")
    assert taken(guarded(*frames, **check)) >= CHECKED
    ended = guarded("--short-table", "--edge", "start", **check)
    assert "IndexError" in ended.stderr

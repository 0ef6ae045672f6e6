"""Saccade works in a folder that holds modules named as its own folders are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.own_folder import make_own_folder

README = Path(__file__).parents[2].joinpath("README.md").read_text("utf-8")
EXAMPLE = re.search(
    r"^```python\n(import asyncio\nimport saccade\n.*?)^```$", README, re.M | re.S
)
CAMERA = """

import numpy as np
events = np.zeros(20_000, [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
events["t"] = np.arange(20_000) * 50
events["x"] = events["t"] // 2_000
events["y"] = np.arange(20_000) * 7 % 480
asyncio.run(forward(np.array_split(events, 20)))
"""


@pytest.fixture
def folder(tmp_path):
    return make_own_folder(tmp_path)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True
    )


def test_the_readmes_example_runs_there(server, folder):
    assert EXAMPLE
    address = server.url.replace("http", "ws")
    script = EXAMPLE[1].replace("ws://127.0.0.1:8000", address) + CAMERA
    (folder / "forward.py").write_text(script)
    done = run(folder, "forward.py")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+ \w+ 0\.\d+$", done.stdout, re.M)


def test_the_commands_run_there(server, folder):
    source = "sim:motions?seconds=1"
    streamed = run(
        folder, "-m", "saccade", "stream", source, "--url", server.url, "--speed", "max"
    )
    assert streamed.returncode == 0, streamed.stderr
    for command in ("serve", "train"):
        helped = run(folder, "-m", "saccade", command, "--help")
        assert helped.returncode == 0, helped.stderr

"""What docs/sdk.md says of the public names is so, against a real server."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import saccade
from tests.clients.scripted import moving

PAGE = Path(__file__).parents[2].joinpath("docs", "sdk.md").read_text("utf-8")
BLOCK, FLAGS = r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL
BLOCKS = re.findall(BLOCK, PAGE, FLAGS)
LISTED = "ws://127.0.0.1:8000"


def test_every_example_of_the_page_runs_in_turn(server, capsys):
    page: dict[str, Any] = {}
    for block in BLOCKS:
        code = block.replace(LISTED, server.url.replace("http", "ws"))
        exec(compile(code, "docs/sdk.md", "exec"), page)
    printed = capsys.readouterr().out
    assert "event_outside_sensor 3 500" in printed
    assert "unknown_model" in printed
    assert "1 event was skipped" in printed
    assert "no Saccade server answers at ws://127.0.0.1:9" in printed


README = Path(__file__).parents[2].joinpath("README.md").read_text("utf-8")


def camera(*, stray: bool):
    """Yield ten arrays of events of a 640x480 sensor; one may hold a stray event."""
    for part in range(10):
        events = moving(2_000, start_us=200_000 * part, step_us=100)
        if stray and part == 5:
            events["x"][7] = 700
        yield events


def forward_of_the_readme(server) -> Any:
    (code,) = [b for b in re.findall(BLOCK, README, FLAGS) if "def forward(" in b]
    page: dict[str, Any] = {}
    code = code.replace(LISTED, server.url.replace("http", "ws"))
    exec(compile(code, "README.md", "exec"), page)
    return page["forward"]


def test_the_readme_s_example_streams_a_camera(server, capsys):
    asyncio.run(forward_of_the_readme(server)(camera(stray=False)))
    assert len(capsys.readouterr().out.splitlines()) == 20_000 // 64


def test_the_readme_s_example_ends_with_the_reason_where_a_frame_is_refused(server):
    with pytest.raises(ExceptionGroup) as ended:
        asyncio.run(forward_of_the_readme(server)(camera(stray=True)))
    assert ended.value.subgroup(saccade.StreamError)
    assert "x is 700" in str(ended.value.exceptions[0])


@pytest.mark.parametrize("name", saccade.__all__)
def test_every_public_name_is_on_the_page(name):
    assert re.search(rf"`(saccade\.)?{name}\b", PAGE)


def test_no_other_name_is_public():
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        _ = saccade.conect
    assert set(saccade.__all__) == {n for n in dir(saccade) if hasattr(saccade, n)}


def test_importing_the_sdk_imports_no_dependency_and_using_it_no_jax():
    program = (
        "import sys, saccade\n"
        "print({'numpy', 'websockets', 'httpx'} & set(sys.modules))\n"
        "saccade.connect, saccade.blocking.connect, saccade.Sensor, saccade.Report\n"
        "print({'jax', 'flax', 'fastapi', 'httpx', 'rich'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\nset()\n"

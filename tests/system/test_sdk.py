"""What docs/sdk.md says of the public names is so, against a real server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import saccade

PAGE = Path(__file__).parents[2].joinpath("docs", "sdk.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LISTED = "ws://127.0.0.1:8000"


def test_every_example_of_the_page_runs_in_turn(server, capsys):
    page: dict[str, Any] = {}
    for block in BLOCKS:
        code = block.replace(LISTED, server.url.replace("http", "ws"))
        exec(compile(code, "docs/sdk.md", "exec"), page)
    printed = capsys.readouterr().out
    assert "event_outside_sensor 3 500" in printed
    assert "unknown_model" in printed
    assert "no Saccade server answers at ws://127.0.0.1:9" in printed


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

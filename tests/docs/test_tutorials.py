"""The tutorials run from their first cell to their last, at a small size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
DIGITS = ROOT.parent / "shared" / "nmnist-small"
SMALL = {"TUTORIAL_EPOCHS": "1", "TUTORIAL_SECONDS": "3"}

pytestmark = pytest.mark.slow


def executed(path: Path, folder: Path) -> dict[str, Any]:
    """Run a notebook in a folder of its own; return it with what its cells said."""
    finished = folder / "finished.ipynb"
    command = [Path(sys.executable).with_name("jupyter-execute"), "--output", finished]
    data = {"NMNIST": str(folder / "digits"), "PYTHONPATH": str(ROOT / "src")}
    environment = {**os.environ, **SMALL, **data}
    subprocess.run([*command, path], cwd=folder, env=environment, check=True)
    notebook: dict[str, Any] = json.loads(finished.read_text())
    return notebook


def take_a_few(folder: Path) -> None:
    """Make a small data set of some digits' first recordings."""
    for split, count in (("Train", 10), ("Test", 2)):
        for digit in (DIGITS / split).iterdir():
            few = folder / split / digit.name
            few.mkdir(parents=True)
            for path in sorted(digit.iterdir())[:count]:
                (few / path.name).symlink_to(path.resolve())


def outputs(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [o for cell in notebook["cells"] for o in cell.get("outputs", [])]


def said(notebook: dict[str, Any]) -> str:
    return "".join("".join(output.get("text", [])) for output in outputs(notebook))


def pictures(notebook: dict[str, Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.mark.skipif(not DIGITS.is_dir(), reason=f"no N-MNIST in {DIGITS}")
def test_a_digit_model_is_trained_and_measured(tmp_path: Path) -> None:
    take_a_few(tmp_path / "digits")
    notebook = executed(TUTORIALS[0], tmp_path)
    assert "of 20 recordings (95 % interval" in said(notebook)
    assert pictures(notebook) == 4


def test_the_states_of_a_trained_model_are_looked_into(tmp_path: Path) -> None:
    notebook = executed(TUTORIALS[1], tmp_path)
    assert "layer 4" in said(notebook)
    assert pictures(notebook) == 2


def test_a_live_server_is_streamed_to(tmp_path: Path) -> None:
    notebook = executed(TUTORIALS[2], tmp_path)
    assert "events scored" in said(notebook)
    assert "saccade_ticks_total" in said(notebook)
    assert pictures(notebook) == 1


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_no_output_is_committed(path: Path) -> None:
    assert not outputs(json.loads(path.read_text()))

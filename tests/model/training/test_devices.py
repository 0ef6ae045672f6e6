"""A run learns the same, however many devices share its batches."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

from saccade.model.training.devices import make_mesh, set_up_devices
from saccade.model.training.errors import InvalidSetting
from saccade.model.training.gradient import microbatch_rows
from tests.compiling import QUICKLY
from tests.model.training.fixtures import SYSTEM, write_digits
from tests.model.training.test_loop import TINY

CLOSE = 1e-5
COMMAND = [sys.executable, "-m", "saccade", "train"]
FOUR = f"{QUICKLY} --xla_force_host_platform_device_count=4"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three epochs; no number of devices divides the rows of a batch."""
    digits = write_digits(tmp_path_factory.mktemp("digits"), each=3)
    changed = ["training.batch_events=352", "training.epochs=3", "model.dropout=0.3"]
    kept = [word for word in TINY if not word.startswith("system.devices")]
    return [*kept, *changed, f"data_dir={digits}"]


def begin(words: list[str], flags: str = QUICKLY) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *words],
        env=os.environ | {"XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


def curve(output: Path) -> list[dict[str, Any]]:
    (run,) = (output / "nmnist").iterdir()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_close(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs) == 9
    for found, expected in zip(ours, theirs, strict=True):
        assert found["kind"] == expected["kind"]
        assert found["loss"] == pytest.approx(expected["loss"], rel=CLOSE)


@pytest.fixture(scope="module")
def alone(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("alone")
    finish(begin([*words, "system.devices=1", f"output_dir={output}"]))
    return curve(output)


@pytest.mark.slow
def test_four_devices_learn_as_one_does(
    words: list[str], alone: Any, tmp_path: Path
) -> None:
    asked = [*words, "system.devices=4", f"output_dir={tmp_path}"]
    finish(begin(asked, FOUR))
    assert_close(curve(tmp_path), alone)


@pytest.mark.slow
def test_two_processes_learn_as_one_does(
    words: list[str], alone: Any, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = [f"system.coordinator=127.0.0.1:{port}", "system.processes=2"]
    asked = [*words, *shared, "system.devices=1", f"output_dir={tmp_path}"]
    both = [begin([*asked, f"system.process={place}"]) for place in range(2)]
    try:
        for process in both:
            finish(process)
    finally:
        for process in both:
            process.kill()
    assert_close(curve(tmp_path), alone)


@pytest.mark.parametrize("count", [0, 99])
def test_more_devices_than_there_are_is_refused(count: int) -> None:
    with pytest.raises(InvalidSetting, match=rf"system\.devices: {count}, where"):
        make_mesh(replace(SYSTEM, devices=count))


def test_a_process_index_beyond_the_last_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"system\.process: 2, of 2"):
        set_up_devices(replace(SYSTEM, processes=2, process=2))


def test_it_is_too_late_to_join_others_once_jax_was_used() -> None:
    assert jax.devices()
    with pytest.raises(InvalidSetting, match=r"system\.coordinator: "):
        set_up_devices(replace(SYSTEM, coordinator="127.0.0.1:1", devices=7))


@pytest.mark.parametrize(
    ("rows", "length", "at_once"),
    [(4, 8192, 1), (64, 1024, 8), (6, 2048, 3), (7, 2048, 1), (3, 32, 3)],
)
def test_microbatches_on_a_cpu_fit_its_cache(
    rows: int, length: int, at_once: int
) -> None:
    assert microbatch_rows(rows, length, "cpu") == at_once
    assert microbatch_rows(rows, length, "gpu") == rows

"""A run learns the same, however many devices share its batches."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

from saccade.model.checkpoint import load
from saccade.model.training.devices import (
    check_coordinator,
    make_mesh,
    set_up_devices,
)
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


class Process:
    """A process of a run, whose words go to a file: a pipe that nobody reads fills.

    Args:
        words: The arguments of `saccade train`.
        flags: XLA's.
    """

    def __init__(self, words: list[str], flags: str = QUICKLY) -> None:
        with tempfile.NamedTemporaryFile(delete=False) as said:
            self._said = Path(said.name)
            self._process = subprocess.Popen(
                [*COMMAND, *words],
                env=os.environ | {"XLA_FLAGS": flags},
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        weakref.finalize(self, self._said.unlink)

    @property
    def status(self) -> int | None:
        return self._process.poll()

    @property
    def said(self) -> str:
        return self._said.read_text()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def finish(*processes: Process, status: int = 0) -> None:
    """Wait until all have ended; fail as soon as one has ended in another way.

    The others would wait for that one for minutes.
    """
    found = [None] * len(processes)
    while None in found:
        time.sleep(0.05)
        found = [one.status for one in processes]
        said = "\n".join(one.said for one in processes)
        assert {*found} <= {None, status}, f"{found}: {said}"


def curve(output: Path) -> list[dict[str, Any]]:
    lines = (run_of(output) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_close(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs) == 9
    for found, expected in zip(ours, theirs, strict=True):
        assert found["kind"] == expected["kind"]
        assert found["loss"] == pytest.approx(expected["loss"], rel=CLOSE)


@pytest.fixture(scope="module")
def alone(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("alone")
    finish(Process([*words, "system.devices=1", f"output_dir={output}"]))
    return curve(output)


@pytest.mark.slow
def test_four_devices_learn_as_one_does(
    words: list[str], alone: Any, tmp_path: Path
) -> None:
    asked = [*words, "system.devices=4", f"output_dir={tmp_path}"]
    finish(Process(asked, FOUR))
    assert_close(curve(tmp_path), alone)


def free_port() -> int:
    """Return a port that no other program is given before a process takes it.

    It takes half a minute on a busy machine until the first process listens. The system
    gives ports from a higher range to whoever connects, or listens anywhere.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def begin_two(words: list[str]) -> list[Process]:
    """Begin two processes of one run, which meet at a free port."""
    port = free_port()
    shared = [f"system.coordinator=127.0.0.1:{port}", "system.processes=2"]
    asked = [*words, *shared]
    return [Process([*asked, f"system.process={place}"]) for place in range(2)]


@contextmanager
def killed_at_the_end(
    processes: list[Process],
) -> Iterator[list[Process]]:
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def together(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes learn together, undisturbed."""
    output = tmp_path_factory.mktemp("together")
    asked = [*words, "system.devices=1", f"output_dir={output}"]
    with killed_at_the_end(begin_two(asked)) as both:
        finish(*both)
    return output


def run_of(output: Path) -> Path:
    (run,) = (output / "nmnist").iterdir()
    return run


def going_on(processes: list[Process]) -> None:
    found = [one.status for one in processes]
    assert found == [None, None], "\n".join(one.said for one in processes)


def wait_for_state(output: Path, processes: list[Process]) -> None:
    """Wait until a state is saved, while other folders come and go beside it."""
    while not [p for p in output.glob("nmnist/*/state/*") if p.name.isdigit()]:
        going_on(processes)
        time.sleep(0.005)


def assert_equal(output: Path, undisturbed: Path) -> None:
    ours, theirs = run_of(output), run_of(undisturbed)
    metrics = (ours / "metrics.jsonl").read_bytes()
    assert metrics == (theirs / "metrics.jsonl").read_bytes()
    hashes = [load(run / "best").manifest.content_hash for run in (ours, theirs)]
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_two_processes_learn_as_one_does(alone: Any, together: Path) -> None:
    assert_close(curve(together), alone)


@pytest.mark.slow
def test_two_processes_that_are_killed_go_on_elsewhere_with_equal_results(
    words: list[str], together: Path, tmp_path: Path
) -> None:
    asked = [*words, "system.devices=1", f"output_dir={tmp_path}"]
    with killed_at_the_end(begin_two(asked)) as both:
        wait_for_state(tmp_path, both)
    resumed = begin_two([f"resume={run_of(tmp_path)}"])  # at another port
    with killed_at_the_end(resumed) as both:
        finish(*both)
    assert_equal(tmp_path, together)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_after_the_same_step(
    words: list[str], tmp_path: Path
) -> None:
    endless = [*words, "system.devices=1", "training.epochs=100000"]
    asked = [*endless, f"output_dir={tmp_path}"]
    for stopped in (1, 0):
        with killed_at_the_end(begin_two(asked)) as both:
            wait_for_steps(tmp_path, both)
            both[stopped].send_signal(signal.SIGTERM)
            finish(*both, status=130)
        steps = trained_steps(tmp_path)
        assert steps == [*range(1, len(steps) + 1)]
        asked = [f"resume={run_of(tmp_path)}"]


def trained_steps(output: Path) -> list[int]:
    """Return the steps of a run's report lines, one a step."""
    return [line["step"] for line in curve(output) if line["kind"] == "train"]


def wait_for_steps(output: Path, processes: list[Process]) -> None:
    """Wait until more steps are reported than there are now."""
    before = {path: path.stat().st_size for path in output.glob("*/*/metrics.jsonl")}
    while not [
        path
        for path in output.glob("*/*/metrics.jsonl")
        if path.stat().st_size > before.get(path, 0)
    ]:
        going_on(processes)
        time.sleep(0.05)


@pytest.mark.parametrize("count", [0, 99])
def test_more_devices_than_there_are_is_refused(count: int) -> None:
    with pytest.raises(InvalidSetting, match=rf"system\.devices: {count}, where"):
        make_mesh(replace(SYSTEM, devices=count))


def test_a_process_index_beyond_the_last_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"system\.process: 2, of 2"):
        set_up_devices(replace(SYSTEM, processes=2, process=2))


def test_a_port_that_is_taken_is_told_before_the_processes_meet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InvalidSetting, match=r"system\.coordinator: .* in use"):
            check_coordinator(place)
    check_coordinator(place)


@pytest.mark.parametrize("place", ["here", "here:", ":", "here:x", "here:70000"])
def test_a_coordinator_is_a_host_and_a_port(place: str) -> None:
    with pytest.raises(InvalidSetting, match=r"is no HOST:PORT"):
        check_coordinator(place)


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

"""A stopped run resumes as if it had not been stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.model.checkpoint import load
from saccade.model.training import cli, train_state
from tests.compiling import QUICKLY
from tests.model.training.fixtures import write_digits
from tests.model.training.test_loop import TINY

EPOCHS = 4
STEPS_AN_EPOCH = 5


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    digits = write_digits(tmp_path_factory.mktemp("digits"), each=3)
    changed = ["training.batch_events=128", f"training.epochs={EPOCHS}"]
    rest = [f"data_dir={digits}", "logging.every_steps=2", "model.dropout=0.3"]
    return [*TINY, *changed, *rest]


def run(words: list[str], output: Path) -> Path:
    assert cli.train([*words, f"output_dir={output}"]) == 0
    (folder,) = (output / "nmnist").iterdir()
    return folder


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never stopped."""
    return run(words, tmp_path_factory.mktemp("whole"))


def assert_same(folder: Path, whole: Path) -> None:
    metrics = (folder / "metrics.jsonl").read_bytes()
    assert metrics == (whole / "metrics.jsonl").read_bytes()
    assert load(folder / "best").manifest.content_hash == (
        load(whole / "best").manifest.content_hash
    )


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send SIGINT after so many steps."""
    make_train_step, taken = train_state.make_train_step, 0

    def make(*arguments: Any) -> Any:
        step = make_train_step(*arguments)

        def stopping(*values: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == steps:
                os.kill(os.getpid(), signal.SIGINT)
            return step(*values)

        return stopping

    monkeypatch.setattr(train_state, "make_train_step", make)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(3, marks=pytest.mark.slow),
        pytest.param(STEPS_AN_EPOCH, marks=pytest.mark.slow),
        2 * STEPS_AN_EPOCH + 2,
    ],
)
def test_a_run_stopped_at_any_step_ends_as_an_unstopped_one(
    steps: int,
    words: list[str],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        stop_after(steps, patch)
        assert cli.train([*words, f"output_dir={tmp_path}"]) == 130
    (folder,) = (tmp_path / "nmnist").iterdir()
    assert f"to go on: saccade train resume={folder}" in capsys.readouterr().out
    assert cli.train([f"resume={folder}"]) == 0
    assert_same(folder, whole)


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unstopped_one(
    words: list[str], whole: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "saccade", "train", *words]
    alike = os.environ | {"XLA_FLAGS": QUICKLY}  # other rounding would show
    with subprocess.Popen([*command, f"output_dir={tmp_path}"], env=alike) as process:
        try:
            # Only where states are saved: folders beside them come and go meanwhile.
            states = "nmnist/*/state/*"
            while not [p for p in tmp_path.glob(states) if p.name.isdigit()]:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.005)
        finally:
            process.kill()
    (folder,) = (tmp_path / "nmnist").iterdir()
    assert cli.train([f"resume={folder}"]) == 0
    assert_same(folder, whole)


def test_a_finished_run_has_nothing_left_to_do(whole: Path) -> None:
    before = (whole / "metrics.jsonl").read_bytes()
    assert cli.train([f"resume={whole}"]) == 0
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_a_run_folder_records_its_origin_and_draws_its_curves(whole: Path) -> None:
    origin = json.loads((whole / "run.json").read_text())
    assert origin["command"].startswith("saccade train task=nmnist")
    assert {"git", "packages"} <= origin.keys()
    assert (whole / "curves.png").read_bytes().startswith(b"\x89PNG")
    rows = np.loadtxt(whole / "metrics.csv", delimiter=",", dtype=str)
    assert rows[0].tolist()[:2] == ["kind", "step"]
    assert len(rows) == 1 + len((whole / "metrics.jsonl").read_text().splitlines())


def test_early_stop_ends_after_so_many_worse_validations(
    words: list[str], tmp_path: Path
) -> None:
    # Without a rate nothing gets better than the first validations, but by rounding.
    still = ["optimizer.lr=0.0", "optimizer.ssm_lr=0.0", "training.epochs=9"]
    folder = run([*words, *still, "training.patience=2"], tmp_path)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["kind"] == "validation"]
    assert len(losses) == losses.index(min(losses)) + 1 + 2
    assert len(losses) < 9


@pytest.mark.slow
def test_a_jobs_number_is_in_the_folders_name(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    assert run([*words, "training.epochs=1"], tmp_path).name.endswith("_job4711")


@pytest.mark.slow
def test_a_full_disk_is_an_error_in_words_and_what_was_saved_stays(
    words: list[str], tmp_path: Path
) -> None:
    folder = run([*words, "training.epochs=1"], tmp_path)
    best = load(folder / "best").manifest
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(re.sub(r"(\n  epochs:) 1\n", r"\1 2\n", text))
    # No file may grow beyond this: a disk that is full, without one that is small.
    command = f"ulimit -f 16; exec {sys.executable} -m saccade train resume={folder}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    (message,) = [line for line in lines if line.startswith(f"saccade: {folder}")]
    assert "cannot be saved" in message
    assert load(folder / "best").manifest == best
    assert cli.train([f"resume={folder}"]) == 0


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["seed=3"], "'seed=3' cannot change; beside it stand system.coordinator"),
        (["system.process"], "it should read key=value"),
        ([], "is no run's folder"),
    ],
)
def test_why_a_run_cannot_resume_is_explained(
    more: list[str],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.train([f"resume={tmp_path}", *more]) == 2
    assert reason in capsys.readouterr().err


def test_another_number_of_samples_is_refused(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    digits = write_digits(tmp_path / "digits", each=3)
    moved = [w for w in words if not w.startswith("data_dir")]
    asked = [*moved, f"data_dir={digits}", "training.epochs=1"]
    folder = run(asked, tmp_path / "outputs")
    write_digits(digits, each=5)
    assert cli.train([f"resume={folder}"]) == 2
    assert "began with 20 training samples" in capsys.readouterr().err

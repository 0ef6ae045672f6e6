"""A tiny run from the command line, looked at from every side."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model.checkpoint import load
from saccade.model.training import cli, train_state
from saccade.model.training.errors import TrainingDiverged
from saccade.model.training.input_pipeline import Batch
from saccade.model.training.loop import interruptible
from saccade.model.training.metrics import MetricsAccumulator
from saccade.model.training.train_state import Tally, TrainState, make_predict
from tests.model.training.fixtures import write_digits
from tests.model.training.test_metrics import tally

TINY = [
    "task=nmnist",
    "model.d_model=4",
    "model.d_ssm=4",
    "model.ssm_block_size=4",
    "model.num_stages=1",
    "model.num_layers_per_stage=1",
    "training.batch_events=960",
    "training.crop_events=[32]",
    "training.epochs=2",
    "training.ema_decay=0.5",
    "task.validation_share=0.3",
    "logging.every_steps=1",
    "logging.progress=false",
    "system.devices=1",
]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), each=3)


@pytest.fixture(scope="module")
def words(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    output = tmp_path_factory.mktemp("outputs")
    return [*TINY, f"data_dir={digits}", f"output_dir={output}"]


@pytest.fixture(scope="module")
def folder(words: list[str]) -> Path:
    """Two epochs of one step each."""
    assert cli.train(words) == 0
    (output,) = [Path(w.removeprefix("output_dir=")) for w in words if "output_" in w]
    (run,) = (output / "nmnist").iterdir()
    return run


def evaluate(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    capsys.readouterr()
    assert cli.evaluate([*words, "--json"]) == 0
    values: dict[str, float] = json.loads(capsys.readouterr().out)
    return values


def test_a_run_folder_holds_configuration_metrics_and_checkpoint(folder: Path) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    assert "d_model: 4" in (folder / "config.yaml").read_text()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["step"] for r in records if r["kind"] == "train"] == [1, 2]
    assert [r["epoch"] for r in records if r["kind"] == "validation"] == [1, 2]
    assert all(np.isfinite(r["loss"]) for r in records)


def test_a_checkpoint_tells_where_it_came_from(folder: Path) -> None:
    manifest = load(folder / "best").manifest
    assert manifest.name == "nmnist"
    assert manifest.labels == tuple("0123456789")
    origin = manifest.provenance
    assert origin["command"].startswith("saccade train task=nmnist")
    assert origin["training_samples"] == 20
    assert origin["epochs"] in {1, 2}
    assert origin["packages"]["jax"]
    assert "N-MNIST" in origin["data"]
    assert manifest.metrics["validation"]["samples"] == 10


def test_the_canary_is_what_the_model_answers(folder: Path) -> None:
    checkpoint = load(folder / "best")
    canary, config = checkpoint.manifest.canary, checkpoint.manifest.config
    assert len(canary.tokens) % config.tick_events == 0
    logits = make_predict(config)(
        checkpoint.variables,
        jnp.array([canary.tokens], jnp.int32),
        jnp.array([canary.dt_ms], jnp.float32),
        jnp.array([len(canary.tokens)]),
    )
    assert np.asarray(logits)[0] == pytest.approx(canary.logits, rel=1e-5, abs=1e-6)


def test_the_best_checkpoint_validates_as_it_did_in_training(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate([*words, f"checkpoint={folder}", "split=validation"], capsys)
    recorded = load(folder / "best").manifest.metrics["validation"]
    assert found["accuracy"] == recorded["accuracy"]
    assert found["loss"] == pytest.approx(recorded["loss"], rel=1e-5)
    best = max(
        json.loads(line)["accuracy"]
        for line in (folder / "metrics.jsonl").read_text().splitlines()
        if '"validation"' in line
    )
    assert found["accuracy"] == best


def test_a_ragged_evaluation_is_the_same_in_any_batch_size(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*words, f"checkpoint={folder / 'best'}"]
    one = evaluate([*asked, "training.batch_events=128"], capsys)
    all_at_once = evaluate([*asked, "training.batch_events=8192"], capsys)
    assert one["samples"] == all_at_once["samples"] == 30
    assert one["accuracy"] == all_at_once["accuracy"]
    assert one["loss"] == pytest.approx(all_at_once["loss"], rel=1e-5)


def test_a_stream_is_measured_as_a_batch_is(
    folder: Path,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = [*words, f"checkpoint={folder}"]
    batch = evaluate(asked, capsys)
    streamed = evaluate([*asked, "mode=streaming", f"figures={tmp_path}"], capsys)
    assert {"accuracy", "samples", "ci95", "classes", "confusion"} <= batch.keys()
    assert streamed["confusion"] == batch["confusion"]
    assert streamed["loss"] == pytest.approx(batch["loss"], rel=1e-5)
    assert batch["time_to_decision_ms"] is None
    assert streamed["time_to_decision_ms"] is not None
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"evaluation.json", "confusion.png", "confidence.png"}


def test_an_empty_split_is_an_error_in_words(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*words, f"checkpoint={folder}", "split=validation"]
    assert cli.evaluate([*asked, "task.validation_share=0"]) == 1
    assert "no samples in its split validation" in capsys.readouterr().err


def test_a_checkpoint_of_another_task_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.evaluate([f"checkpoint={folder}", "task=motions"]) == 2
    assert "34x34" in capsys.readouterr().err


def test_a_missing_checkpoint_is_an_error_in_words(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.evaluate([*words, "checkpoint=nowhere"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("saccade: ")
    assert "nowhere: there is no such folder" in error


def test_missing_data_leaves_no_run_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data_dir={tmp_path / 'nowhere'}", f"output_dir={tmp_path / 'outputs'}"]
    assert cli.train([*TINY, *words]) == 1
    assert "Download N-MNIST" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("argument", ["--cfgg", "training.epcohs=1", "task=nmist"])
def test_a_misspelt_word_is_status_2_and_suggests_another(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [] if argument.startswith("task") else ["task=nmnist"]
    assert cli.train([*words, argument]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_cfg_job_prints_the_resolved_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.train(["task=motions", "training.epochs=3", "--cfg", "job"]) == 0
    assert "epochs: 3" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_ends_the_run_and_saves_the_batch(
    tmp_path: Path,
) -> None:
    metrics = MetricsAccumulator(tmp_path / "diverged.npz")
    for step, loss in enumerate([1.0, float("nan"), float("nan")], start=5):
        batch = Batch(*(np.full((1, 1), step) for _ in Batch._fields))
        metrics.add(step, batch, tally(loss, 0, 1))
    with pytest.raises(TrainingDiverged, match=r"at step 6, .*smaller optimizer"):
        metrics.read(step=7, epoch=1)
    with np.load(tmp_path / "diverged.npz") as kept:
        assert set(kept) == set(Batch._fields)
        assert kept["tokens"].tolist() == [[6]]


def test_ctrl_c_saves_what_there_is(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stand_still(state: TrainState, batch: Batch) -> tuple[TrainState, Tally]:
        return state, tally(1.0, 0, 1)

    monkeypatch.setattr(train_state, "make_train_step", lambda *_: stand_still)

    def interrupt() -> None:
        while not list(tmp_path.glob("nmnist/*/metrics.jsonl")):
            if over.wait(0.05):
                return
        os.kill(os.getpid(), signal.SIGINT)

    over = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    wanted = [w for w in words if not w.startswith(("output_dir", "training.epochs"))]
    try:
        status = cli.train([*wanted, f"output_dir={tmp_path}", "training.epochs=9999"])
    finally:
        over.set()
        thread.join()
    assert status == 130
    assert "stopped after" in capsys.readouterr().out
    (last,) = tmp_path.rglob("last")
    assert load(last).manifest.provenance["training_samples"] == 20


def test_a_second_ctrl_c_does_not_wait() -> None:
    with interruptible() as interruption:
        interruption.request(signal.SIGINT, None)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            interruption.request(signal.SIGINT, None)

"""A run becomes a checkpoint to serve, with a card that describes its origin."""

from __future__ import annotations

import io
import json
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from saccade.__main__ import main
from saccade.model.checkpoint import load, read_manifest
from saccade.model.training import cli
from saccade.model.training.config import resolve
from saccade.model.training.evaluate_command import evaluate_checkpoint, task_of
from saccade.model.training.settings import EvaluationSettings
from saccade.model.training.typed import build
from saccade.server.engine.loading import load_model
from tests.model.training.fixtures import write_digits
from tests.model.training.test_loop import TINY
from tests.transport.conftest import serving


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), each=3)


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("outputs")
    words = [f"data_dir={digits}", f"output_dir={output}", "training.epochs=1"]
    assert cli.train([*TINY, *words]) == 0
    (folder,) = (output / "nmnist").iterdir()
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert main(["export", str(run), "--name", "digits", "--out", str(out)]) == 0
    return out / "digits"


def test_the_weights_are_those_of_the_best_epoch_under_the_new_name(
    exported: Path, run: Path
) -> None:
    manifest = load(exported).manifest
    assert manifest.name == "digits"
    assert manifest.content_hash == load(run / "best").manifest.content_hash


def test_the_card_has_data_licence_command_and_accuracy(exported: Path) -> None:
    text = (exported / "README.md").read_text()
    rows = dict(re.findall(r"^\| (\w[\w ]*?) \| (.+?) \|$", text, re.MULTILINE))
    assert rows["Answers"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert rows["Trained on"].startswith("20 samples, 1 epochs, seed 0")
    assert "CC BY-SA 4.0" in rows["Licence of the data"]
    assert rows["Command"].startswith("`saccade train task=nmnist ")
    assert re.match(r"\d+\.\d% of 10 samples", rows["Accuracy"])


@pytest.fixture(scope="module")
def evaluation(
    run: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A file with the output of `saccade evaluate` on the split `test`."""
    words = [f"checkpoint={run}", "task=nmnist", f"data_dir={digits}", "split=test"]
    out = io.StringIO()
    with redirect_stdout(out):
        assert cli.evaluate([*words, "--json"]) == 0
    path = tmp_path_factory.mktemp("evaluation") / "test.json"
    path.write_text(out.getvalue())
    return path


def export_measured(run: Path, out: Path, evaluation: Path) -> int:
    asked = ["export", str(run), "--name", "digits", "--out", str(out)]
    return main([*asked, "--evaluation", str(evaluation)])


def test_an_evaluation_goes_into_manifest_and_card(
    run: Path, evaluation: Path, tmp_path: Path
) -> None:
    assert export_measured(run, tmp_path, evaluation) == 0
    values = json.loads(evaluation.read_text())
    found = read_manifest(tmp_path / "digits").metrics["test"]
    assert found == {name: values[name] for name in found}
    text = (tmp_path / "digits" / "README.md").read_text()
    assert f"{values['accuracy']:.1%} of 30 samples of the test split" in text
    assert "of 10 samples held out" in text


@pytest.mark.parametrize("damage", ["another checkpoint", "no JSON", "no accuracy"])
def test_an_evaluation_that_is_none_of_this_checkpoint_is_refused(
    damage: str,
    run: Path,
    evaluation: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = json.loads(evaluation.read_text())
    path = tmp_path / "evaluation.json"
    path.write_text(
        {
            "another checkpoint": json.dumps({**values, "content_hash": "0" * 64}),
            "no JSON": "accuracy: 100 %",
            "no accuracy": json.dumps({**values, "accuracy": None}),
        }[damage]
    )
    assert export_measured(run, tmp_path, path) == 1
    assert f"--evaluation: {path} is" in capsys.readouterr().err
    assert not (tmp_path / "digits").exists()


def test_no_path_of_the_writers_machine_is_exported(exported: Path, run: Path) -> None:
    command = read_manifest(exported).provenance["command"]
    assert "data_dir=FOLDER" in command
    assert "output_dir" not in command
    for name in ("README.md", "manifest.json"):
        assert str(run.parent.parent) not in (exported / name).read_text()


def test_a_real_server_scores_every_sample_as_the_evaluation_does(
    exported: Path, digits: Path
) -> None:
    words = [f"checkpoint={exported}", "task=nmnist", f"data_dir={digits}"]
    settings = build(EvaluationSettings, resolve("evaluate", [*words, "split=test"]))
    samples = task_of(settings).load("test")
    predictions = evaluate_checkpoint(settings).predictions
    labels = load(exported).manifest.labels
    assert predictions.labels.tolist() == samples.labels.tolist()
    with serving(load_model(exported)) as server:
        for events, logits in zip(samples.events, predictions.logits, strict=True):
            with server.client() as client:
                client.open("digits")
                client.send(events)
                closed = client.finish()
            scale = np.abs(logits).max()
            assert np.abs(np.asarray(closed.logits) - logits).max() <= 1e-4 * scale
            assert closed.label == labels[int(logits.argmax())]


def test_a_resumed_run_names_the_command_that_began_it(
    run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(run, folder)
    text = (folder / "config.yaml").read_text()
    longer = re.sub(r"(\n  epochs:) 1\n", r"\1 2\n", text)
    assert longer != text
    (folder / "config.yaml").write_text(longer)
    assert cli.train([f"resume={folder}"]) == 0
    assert main(["export", str(folder), "--name", "n", "--out", str(tmp_path)]) == 0
    for origin in (
        json.loads((folder / "run.json").read_text()),
        read_manifest(tmp_path / "n").provenance,
    ):
        assert origin["command"].startswith("saccade train task=nmnist")
        assert "resume" not in origin["command"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("../up", "letters, digits"), ("digits", "is there already")],
)
def test_what_cannot_be_exported_is_explained(
    name: str,
    reason: str,
    exported: Path,
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["export", str(run), "--name", name, "--out", str(exported.parent)]
    assert main(asked) == 1
    assert reason in capsys.readouterr().err


def test_a_folder_without_a_checkpoint_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["export", str(tmp_path / "nowhere"), "--name", "n", "--out", str(tmp_path)]
    assert main(asked) == 1
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "n").exists()

"""Logging to Weights & Biases, without an account and without a network."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from saccade.model.training import cli
from tests.model.training.fixtures import write_digits
from tests.model.training.test_loop import TINY

OFFLINE = ["logging=wandb", "logging.mode=offline"]


START_S = 480.0


@contextmanager
def training(words: list[str], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Train in a group of processes of its own, as a terminal does.

    Args:
        words: The command's.
        said: Gets what it prints, for a pipe that nobody reads would stop it.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    command = [sys.executable, "-X", "faulthandler", "-m", "saccade", "train", *words]
    with said.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_best(process: subprocess.Popen[bytes], said: Path, output: Path) -> None:
    """Return when a run has kept its best model.

    Raises:
        AssertionError: It ended or stands still; has what it said, and the stacks.
    """
    deadline_s = time.monotonic() + START_S
    while not list(output.glob("nmnist/*/best")):
        assert process.poll() is None, said.read_text()
        if time.monotonic() > deadline_s:
            process.send_signal(signal.SIGABRT)
            process.wait()
            raise AssertionError(said.read_text())
        time.sleep(0.05)


def sent_files(folder: Path) -> list[Path]:
    """Return the files to be sent, oldest first."""
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def records(file: Path) -> Iterator[Any]:
    """Read a file as `wandb sync` does."""
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    store = DataStore()
    store.open_for_scan(str(file))
    try:
        while (data := store.scan_data()) is not None:
            record = Record()
            record.ParseFromString(data)
            yield getattr(record, record.WhichOneof("record_type"))
    finally:
        store.close()


def of_kind(found: list[Any], name: str) -> list[Any]:
    return [record for record in found if type(record).__name__ == f"{name}Record"]


def histories(found: list[Any]) -> list[dict[str, float]]:
    return [
        {(i.key or i.nested_key[0]): json.loads(i.value_json) for i in record.item}
        for record in of_kind(found, "History")
    ]


def check_metrics(found: list[Any], folder: Path) -> None:
    """Assert that the sent metrics are the last lines of the run's metrics."""
    sent = histories(found)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    local = [json.loads(line) for line in lines][-len(sent) :]
    assert sent
    for there, here in zip(sent, local, strict=True):
        kind = here["kind"]
        assert there["epoch"] == here["epoch"] == there["step"]
        assert there[f"{kind}/loss"] == here["loss"]
        assert there[f"{kind}/accuracy"] == here["accuracy"]


@pytest.mark.slow
def test_a_run_that_is_stopped_is_finished_there_and_goes_on_as_the_same_run(
    tmp_path: Path,
) -> None:
    digits = write_digits(tmp_path / "digits", each=3)
    kept = [word for word in TINY if not word.startswith("training.epochs")]
    words = [*kept, *OFFLINE, f"data_dir={digits}", f"output_dir={tmp_path / 'out'}"]
    said = tmp_path / "said"
    with training([*words, "training.epochs=9999"], said) as process:
        wait_for_best(process, said, tmp_path / "out")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(600) == 130, said.read_text()
    assert "to go on: saccade train resume=" in said.read_text()
    (folder,) = (tmp_path / "out" / "nmnist").iterdir()
    (first,) = sent_files(folder)
    found = list(records(first))
    (run,) = of_kind(found, "Run")
    config = {u.key: json.loads(u.value_json) for u in run.config.update}
    assert config["model"]["d_model"] == 4
    origin = json.loads((folder / "run.json").read_text())
    assert config["origin"]["git"] == origin["git"]
    assert run.run_id == (folder / "wandb_id").read_text().strip()
    check_metrics(found, folder)
    assert "best/accuracy" in str(of_kind(found, "Summary"))
    assert [record.exit_code for record in of_kind(found, "RunExit")] == [0]

    epochs = histories(found)[-1]["epoch"] + 1
    text = (folder / "config.yaml").read_text()
    text = re.sub(r"(\n  epochs:) 9999\n", rf"\1 {epochs}\n", text)
    (folder / "config.yaml").write_text(text)
    with training([f"resume={folder}"], said) as process:
        assert process.wait(600) == 0, said.read_text()
    assert len(sent_files(folder)) == 2
    (second,) = [file for file in sent_files(folder) if file != first]
    found = list(records(second))
    assert [record.run_id for record in of_kind(found, "Run")] == [run.run_id]
    assert [sent["epoch"] for sent in histories(found)][-2:] == [epochs, epochs]
    check_metrics(found, folder)


def test_without_the_package_the_error_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "saccade.model.training.wandb_log", raising=False)
    assert cli.train([*TINY, *OFFLINE, f"output_dir={tmp_path}"]) == 1
    assert "pip install 'saccade[wandb]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_mode_that_there_is_not_suggests_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.train(["task=motions", "logging=wandb", "logging.mode=ofline"]) == 2
    assert "did you mean 'offline'" in capsys.readouterr().err
    assert cli.train(["task=motions", "logging.mode=offline"]) == 2
    assert "logging.mode" in capsys.readouterr().err

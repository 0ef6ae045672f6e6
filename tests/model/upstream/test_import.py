"""The authors' checkpoints import, or the error names the exact reason."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml

from saccade.model.checkpoint import CheckpointError, load
from saccade.model.classifier import Classifier, scan
from saccade.model.training.config import resolve
from saccade.model.upstream.cli import import_upstream
from saccade.model.upstream.conversion import check
from saccade.model.upstream.errors import (
    InvalidRecipe,
    LeavesDisagree,
    UnknownLayout,
    UnknownRecipe,
    UpstreamDamaged,
    UpstreamMissing,
)
from saccade.model.upstream.files import read
from saccade.model.upstream.recipes import presets, recipe
from tests.model.upstream.reference_files import (
    CONFIG,
    LABELS,
    YAML,
    variables,
    write_msgpack,
)

GOLDEN = Path(
    os.environ.get(
        "SACCADE_GOLDEN_DIR", Path(__file__).parents[3].parent / "shared" / "golden"
    )
)
PUBLISHED = sorted(GOLDEN.glob("upstream_checkpoints/*"))
LIMIT = 3e-5

stored = pytest.mark.parametrize(
    "folder",
    PUBLISHED
    or [pytest.param(None, marks=pytest.mark.skip(f"no golden files in {GOLDEN}"))],
    ids=lambda folder: folder.name if folder else "",
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run's folder as the reference's trainer leaves it."""
    write_msgpack(tmp_path / "run" / "checkpoints" / "checkpoint_7", variables())
    (tmp_path / "net.yaml").write_text(YAML)
    return tmp_path / "run"


@stored
def test_every_layout_imports_and_gives_the_stored_logits(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(folder), "--config", "shd/tiny", "--out", str(tmp_path / "shd")]
    assert import_upstream(words) == 0
    assert "saccade serve --model" in capsys.readouterr().out
    checkpoint = load(tmp_path / "shd")
    manifest = checkpoint.manifest
    with np.load(folder / "logits.npz") as arrays:
        truth = arrays["input/a/logits"]
        infer = jax.jit(
            functools.partial(Classifier(manifest.config).apply, train=False)
        )
        logits = infer(
            checkpoint.variables,
            arrays["input/a/tokens"] % manifest.config.num_embeddings,
            arrays["input/a/timesteps_ms"],
            arrays["input/a/lengths"],
        )
    assert np.abs(logits[0] - truth[0]).max() <= LIMIT * np.abs(truth).max()
    assert manifest.timestep == "following"
    assert (manifest.labels[1], manifest.labels[11]) == ("one", "eins")
    assert manifest.provenance["step"] == 5
    assert str(tmp_path) not in str(manifest.to_dict())


@stored
def test_a_wrong_config_names_the_leaf_and_both_shapes(folder: Path) -> None:
    with pytest.raises(LeavesDisagree) as refusal:
        check(read(folder), recipe("shd/medium"))
    text = str(refusal.value)
    assert "params/decoder/kernel has shape (16, 20); expected (96, 20)" in text
    assert "shd/medium" in text


@stored
def test_a_truncated_file_is_damaged_whatever_the_layout(
    folder: Path, tmp_path: Path
) -> None:
    """In a process of its own, since Orbax leaves reads of the other arrays behind."""
    source = folder / "checkpoints" / "checkpoint_5"
    copied = tmp_path / "checkpoint_5"
    for file in [source] if source.is_file() else source.rglob("*"):
        if file.is_dir():
            continue
        target = copied / file.relative_to(source) if source.is_dir() else copied
        target.parent.mkdir(parents=True, exist_ok=True)
        content = file.read_bytes()
        metadata = file.name in {"_METADATA", "_CHECKPOINT_METADATA"}
        target.write_bytes(content if metadata else content[: len(content) // 2])
    out = tmp_path / "out"
    words = ["import-upstream", str(copied), "--config", "shd/tiny", "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, "-m", "saccade", *words], capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert f"saccade import-upstream: {copied}: " in ended.stderr
    assert "truncated or damaged" in ended.stderr or "cannot read it" in ended.stderr
    assert not out.exists()


def test_a_file_of_the_reference_s_form_imports_and_scores_alike(
    run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    words = [str(run), "--config", str(tmp_path / "net.yaml"), "--out", str(out)]
    assert import_upstream([*words, "--name", "moves"]) == 0
    loaded = load(out)
    manifest = loaded.manifest
    assert (manifest.name, list(manifest.labels)) == ("moves", LABELS)
    assert manifest.config == CONFIG
    assert manifest.tokenization.scheme == "product"
    assert manifest.provenance["step"] == 7
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.variables, variables()))
    canary = manifest.canary
    logits = jax.jit(scan, static_argnums=0)(
        CONFIG,
        variables(),
        np.asarray(canary.tokens, np.int32),
        np.asarray(canary.dt_ms, np.float32),
    )
    assert np.allclose(logits, canary.logits, rtol=1e-4, atol=1e-5)


def test_the_newest_step_of_a_run_is_taken(run: Path) -> None:
    other = jax.tree.map(lambda leaf: leaf + 1, variables())
    write_msgpack(run / "checkpoints" / "checkpoint_10", other)
    assert read(run).path.name == "checkpoint_10"
    assert read(run / "checkpoints" / "checkpoint_7").path.name == "checkpoint_7"


def test_leaves_that_are_missing_or_too_many_are_all_named(
    run: Path, tmp_path: Path
) -> None:
    weights = copy.deepcopy(variables())
    weights["params"]["extra"] = {"kernel": np.zeros((2, 3), np.float32)}
    del weights["params"]["decoder"]["bias"]
    write_msgpack(run / "checkpoints" / "checkpoint_8", weights)
    with pytest.raises(LeavesDisagree) as refusal:
        check(read(run), recipe(str(tmp_path / "net.yaml")))
    by_name = {one.leaf: one for one in refusal.value.disagreements}
    assert by_name["params/decoder/bias"].found is None
    assert by_name["params/decoder/bias"].expected == (3,)
    assert by_name["params/extra/kernel"].expected is None
    assert by_name["params/extra/kernel"].found == (2, 3)
    assert len(by_name) == 2


def test_a_weight_that_is_not_finite_is_refused_by_name(run: Path) -> None:
    weights = copy.deepcopy(variables())
    weights["params"]["decoder"]["bias"][1] = np.nan
    write_msgpack(run / "checkpoints" / "checkpoint_8", weights)
    with pytest.raises(UpstreamDamaged, match="decoder/bias holds values that are not"):
        read(run)


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.01])
def test_a_truncated_msgpack_file_is_damaged(run: Path, keep: float) -> None:
    file = run / "checkpoints" / "checkpoint_7"
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UpstreamDamaged, match="truncated or damaged"):
        read(run)


def test_what_is_no_checkpoint_is_called_what_it_is(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UpstreamMissing, match="no such file or folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UpstreamMissing, match="no checkpoint_N"):
        read(tmp_path / "empty")
    with pytest.raises(UnknownLayout, match="neither a folder nor"):
        read(tmp_path / "net.yaml")
    (tmp_path / "map").write_bytes(b"\x81\xa1a\x01")
    with pytest.raises(UnknownLayout, match="no parameters among a"):
        read(tmp_path / "map")
    words = [str(run), "--config", str(tmp_path / "net.yaml"), "--out"]
    assert import_upstream([*words, str(tmp_path / "ours")]) == 0
    with pytest.raises(UnknownLayout, match="Saccade checkpoint already"):
        read(tmp_path / "ours")


def test_the_command_says_what_is_wrong_and_writes_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert import_upstream([str(run), "--config", "dvs/small", "--out", str(out)]) == 1
    text = capsys.readouterr().err
    assert "decoder/bias has shape (3,); expected (11,)" in text
    assert not out.exists()


def test_an_unknown_config_is_told_which_ones_there_are() -> None:
    with pytest.raises(UnknownRecipe, match="did you mean shd/medium"):
        recipe("shd/medum")
    assert issubclass(UnknownRecipe, CheckpointError)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": None}, "classes are not known"),
        ({"sensor": None}, "sensor is not known"),
        ({"model": None}, "model is no mapping"),
        ({"model": {"ssm": {}, "ssm_init": {}}}, "does not say conj_sym"),
        ({"model": {"d_modell": 3}}, "d_modell"),
        ({"tokens": {"scheme": "diagonal"}}, "diagonal"),
    ],
)
def test_a_config_that_says_too_little_says_what_is_missing(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    values = {**yaml.safe_load(YAML), **change}
    file = tmp_path / "net.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(InvalidRecipe, match=reason):
        recipe(str(file))


def test_a_task_s_name_stands_for_its_classes_and_sensor(tmp_path: Path) -> None:
    """As in the configuration that Hydra leaves in the reference's run folder."""
    values = {
        "task": {"name": "shd-classification"},
        "model": yaml.safe_load(YAML)["model"],
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    found = recipe(str(file))
    assert (found.config.num_embeddings, found.config.num_classes) == (700, 20)
    assert recipe(str(file), labels=list("abc")).config.num_classes == 3


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_what_the_trainer_makes_of_it(name: str) -> None:
    trained = resolve("config", ["task=motions", f"model={name}"])["model"]
    config = recipe(name).config.to_dict()
    assert {key: config[key] for key in trained} == trained


def test_the_published_tasks_fit_their_networks() -> None:
    sizes = {
        name: (recipe(name).config.num_embeddings, len(recipe(name).labels))
        for name in presets()
    }
    assert sizes == {
        "dvs/small": (32768, 11),
        "shd/medium": (700, 20),
        "shd/tiny": (700, 20),
        "ssc/medium": (700, 35),
        "ssc/small": (700, 35),
    }

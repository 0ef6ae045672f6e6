"""Checkpoints come back as they were saved, and say what is wrong when they cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from saccade.model import checkpoint
from saccade.model.checkpoint import (
    Checkpoint,
    CheckpointMismatch,
    CheckpointMissing,
    ManifestInvalid,
    WeightsDamaged,
)
from saccade.model.events.sensor import Sensor
from saccade.model.manifest import Canary, Manifest
from saccade.model.tokens import Tokenization
from tests.model.variants import random_variables, small

CONFIG = small(num_stages=1, pooling_stride=4, num_layers_per_stage=1)


def manifest() -> Manifest:
    return Manifest(
        name="small",
        labels=("a", "b", "c", "d", "e"),
        config=CONFIG,
        tokenization=Tokenization("linear", Sensor(5, 5)),
        timestep="preceding",
        canary=Canary((1, 2, 3, 4), (0.0, 0.5, 1.0, 0.25), (0.0,) * 5),
        provenance={"command": "saccade train task=small"},
        metrics={"accuracy": 0.5},
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "small", manifest(), random_variables(CONFIG))
    return tmp_path / "small"


def test_a_checkpoint_comes_back_as_it_was_saved(saved: Path) -> None:
    loaded = checkpoint.load(saved)
    written = random_variables(CONFIG)
    assert replace(loaded.manifest, content_hash="") == manifest()
    assert len(loaded.manifest.content_hash) == 64
    assert jax.tree.structure(loaded.variables) == jax.tree.structure(written)
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.variables, written))


def test_the_hash_tells_other_weights_and_other_labels_apart(tmp_path: Path) -> None:
    hashes = {
        checkpoint.save(
            tmp_path / "x", facts, random_variables(CONFIG, seed)
        ).content_hash
        for seed in (0, 1)
        for facts in (manifest(), replace(manifest(), labels=("a", "b", "c", "d", "f")))
    }
    assert len(hashes) == 4


def test_the_hash_does_not_depend_on_what_was_measured(tmp_path: Path) -> None:
    variables = random_variables(CONFIG)
    other = replace(manifest(), metrics={"accuracy": 0.9})
    first = checkpoint.save(tmp_path / "x", manifest(), variables)
    assert (
        checkpoint.save(tmp_path / "y", other, variables).content_hash
        == first.content_hash
    )


def test_saving_again_replaces_weights_and_keeps_the_model_card(saved: Path) -> None:
    (saved / "README.md").write_text("a card")
    checkpoint.save(saved, manifest(), random_variables(CONFIG, seed=3))
    assert (saved / "README.md").read_text() == "a card"
    assert checkpoint.load(saved).manifest.name == "small"
    assert [path.name for path in saved.parent.iterdir()] == ["small"]


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda facts: facts.pop(name)


def put(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda facts: facts.update({name: value})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("labels"), "the field 'labels' is missing"),
        (put("format", 99), "format 99"),
        (put("labels", ["a"]), "1 labels for 5 classes"),
        (put("timestep", "sideways"), "sideways"),
        (put("model", {"d_model": 8}), "incomplete model settings"),
        (put("model", {"d_modle": 8}), "unknown model settings: d_modle"),
        (put("tokenization", {"scheme": "linear"}), "incomplete tokenization"),
        (
            put("canary", {"tokens": [1], "dt_ms": [0.0], "logits": [0.0] * 5}),
            "whole ticks",
        ),
    ],
)
def test_a_wrong_manifest_names_the_file_and_the_field(
    saved: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    file = saved / "manifest.json"
    facts = json.loads(file.read_text())
    change(facts)
    file.write_text(json.dumps(facts))
    with pytest.raises(ManifestInvalid) as caught:
        checkpoint.load(saved)
    assert str(file) in str(caught.value)
    assert reason in str(caught.value)


def test_a_truncated_manifest_names_the_file(saved: Path) -> None:
    file = saved / "manifest.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(ManifestInvalid, match=r"manifest\.json"):
        checkpoint.load(saved)


def test_a_folder_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="no such folder"):
        checkpoint.load(tmp_path / "nowhere")


def test_a_folder_without_a_manifest_is_missing_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="no manifest"):
        checkpoint.load(tmp_path)


def truncate(saved: Path) -> None:
    for file in (saved / "weights").rglob("d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def remove_metadata(saved: Path) -> None:
    (saved / "weights" / "_METADATA").unlink()


def remove_weights(saved: Path) -> None:
    (saved / "weights").rename(saved / "elsewhere")


@pytest.mark.parametrize("damage", [truncate, remove_metadata, remove_weights])
def test_damaged_weights_name_the_folder(
    saved: Path, damage: Callable[[Path], None]
) -> None:
    damage(saved)
    with pytest.raises(WeightsDamaged) as caught:
        checkpoint.load(saved)
    assert str(saved / "weights") in str(caught.value)


def test_weights_of_another_size_name_the_leaf_and_both_shapes(saved: Path) -> None:
    file = saved / "manifest.json"
    facts = json.loads(file.read_text())
    facts["model"]["num_embeddings"] = 60
    file.write_text(json.dumps(facts))
    with pytest.raises(CheckpointMismatch, match=r"embedding.*\(50, 8\).*\(60, 8\)"):
        checkpoint.load(saved)


def test_weights_of_another_kind_name_the_leaf(saved: Path) -> None:
    file = saved / "manifest.json"
    facts = json.loads(file.read_text())
    facts["model"]["batchnorm"] = True
    file.write_text(json.dumps(facts))
    with pytest.raises(CheckpointMismatch, match=r"BatchNorm_0.*is missing"):
        checkpoint.load(saved)


def test_weights_that_were_exchanged_are_noticed(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    checkpoint.save(other, manifest(), random_variables(CONFIG, seed=1))
    remove_weights(saved)
    (other / "weights").rename(saved / "weights")
    with pytest.raises(CheckpointMismatch, match="hash"):
        checkpoint.load(saved)


def test_a_checkpoint_is_a_manifest_and_variables(saved: Path) -> None:
    assert isinstance(checkpoint.load(saved), Checkpoint)

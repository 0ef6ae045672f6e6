"""Every released checkpoint is small, sound, described, and answers as it did."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model.checkpoint import load, read_manifest
from saccade.model.classifier import scan
from tests.project.repository import ROOT

CHECKPOINTS = ROOT / "checkpoints"
FOLDERS = sorted(path for path in CHECKPOINTS.iterdir() if path.is_dir())
NAMES = [path.name for path in FOLDERS if path.name != "__pycache__"]
LARGEST_BYTES = 3_000_000
TOLERANCE = 1e-4
SCAN = jax.jit(scan, static_argnums=0)

pytestmark = pytest.mark.parametrize(
    "folder", [CHECKPOINTS / name for name in NAMES], ids=NAMES
)


def card(folder: Path) -> dict[str, str]:
    """Return the rows of the model card's table."""
    text = (folder / "README.md").read_text()
    return dict(re.findall(r"^\| (\w[\w ]*?) \| (.+?) \|$", text, re.MULTILINE))


def test_it_is_small(folder):
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < (
        LARGEST_BYTES
    )


def test_its_folder_and_its_manifest_have_one_name(folder):
    assert read_manifest(folder).name == folder.name


def test_it_loads_and_its_canary_answers_as_it_did(folder):
    checkpoint = load(folder)
    manifest, variables = checkpoint.manifest, checkpoint.variables
    canary = manifest.canary
    tokens, dt_ms = jnp.array(canary.tokens), jnp.array(canary.dt_ms)
    logits = np.asarray(SCAN(manifest.config, variables, tokens, dt_ms))
    expected = np.asarray(canary.logits)
    assert np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_its_card_names_data_licence_command_and_accuracy(folder):
    rows = card(folder)
    assert rows["Answers"]
    assert any(name.startswith("Trained on") for name in rows)
    assert any(name.startswith("Licence") for name in rows)
    assert f"saccade train task={folder.name}" in rows["Command"]
    assert re.search(r"\d+\.\d ?%", rows["Accuracy"])
    assert re.search(r"\d+ .*(recordings|samples|scenes)", rows["Accuracy"])


def test_its_manifest_says_how_it_was_made(folder):
    manifest = read_manifest(folder)
    provenance = manifest.provenance
    assert provenance["command"].startswith(f"saccade train task={folder.name}")
    assert {"data", "seed", "git", "packages"} <= set(provenance)
    assert manifest.metrics

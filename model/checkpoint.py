"""Checkpoints on disk: a manifest in JSON and weights written by Orbax.

    nmnist/
      manifest.json    a `Manifest`: network, tokenization, canary, provenance
      weights/         an Orbax checkpoint of Linen's variables

The content hash covers all that determines a score; two checkpoints with the same
hash give the same scores.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
import orbax.checkpoint as ocp

from saccade.model.classifier import Variables, expected_shapes, leaves
from saccade.model.config import ModelConfig
from saccade.model.manifest import Manifest, content_hash

MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "weights"


class CheckpointError(Exception):
    """A checkpoint that cannot be used.

    CheckpointError
    ├── CheckpointMissing    no such folder, or no manifest in it
    ├── ManifestInvalid      the manifest is not JSON, or a field is wrong
    ├── WeightsDamaged       Orbax cannot read the weights
    ├── CheckpointMismatch   weights and manifest disagree
    └── UpstreamError        the authors' files: see `model.upstream.errors`
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class CheckpointMissing(CheckpointError):
    """There is no checkpoint at this path."""


class ManifestInvalid(CheckpointError):
    """The manifest is not JSON, or a field is wrong."""


class WeightsDamaged(CheckpointError):
    """Orbax cannot read the weights."""


class CheckpointMismatch(CheckpointError):
    """Weights and manifest disagree."""


@dataclass(frozen=True)
class Checkpoint:
    """A manifest and the variables that it describes."""

    manifest: Manifest
    variables: Variables


def save(path: Path | str, manifest: Manifest, variables: Variables) -> Manifest:
    """Write a checkpoint; an old one at this path stays until the new one is complete.

    Returns:
        The manifest with its content hash.

    Raises:
        CheckpointMismatch: The variables are not of the manifest's model.
    """
    path = Path(path).absolute()
    tree = jax.tree.map(np.asarray, variables)
    _compare(path, manifest.config, tree)
    manifest = replace(manifest, content_hash=content_hash(manifest, tree))
    fresh = path.with_name(f".{path.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with _checkpointer() as checkpointer:
        checkpointer.save(fresh / WEIGHTS, tree)
    # Orbax writes the absolute path of the folder into this file and never reads it.
    (fresh / WEIGHTS / "commit_success.txt").unlink(missing_ok=True)
    text = json.dumps(manifest.to_dict(), indent=1)
    (fresh / MANIFEST).write_text(_compact_lists(text) + "\n")
    _replace(fresh, path)
    return manifest


def _checkpointer() -> Any:
    """Return an Orbax checkpointer that does not wait for other processes."""
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _replace(fresh: Path, path: Path) -> None:
    """Move the new files in; other files of the old folder (a model card) stay."""
    path.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(path / WEIGHTS, ignore_errors=True)
    (fresh / WEIGHTS).rename(path / WEIGHTS)
    (fresh / MANIFEST).replace(path / MANIFEST)
    fresh.rmdir()


def _compact_lists(text: str) -> str:
    """Put each innermost JSON list on one line."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        item = line.strip()
        if inside:
            lines[-1] += item if item.startswith("]") else item + " "
            inside = not item.startswith("]")
        else:
            lines.append(line)
            inside = item.endswith("[")
    return "\n".join(line.replace(" ]", "]") for line in lines)


def read_manifest(path: Path | str) -> Manifest:
    """Read a checkpoint's manifest alone.

    Raises:
        CheckpointMissing: There is no manifest at this path.
        ManifestInvalid: The manifest cannot be parsed, or a field is wrong.
    """
    path = Path(path).absolute()
    if not path.is_dir():
        raise CheckpointMissing(path, "there is no such folder")
    file = path / MANIFEST
    if not file.is_file():
        raise CheckpointMissing(file, "there is no manifest in this folder")
    try:
        return Manifest.from_dict(json.loads(file.read_text()))
    except (ValueError, AttributeError) as error:
        raise ManifestInvalid(file, str(error)) from error


def load(path: Path | str) -> Checkpoint:
    """Read a checkpoint and check it against its manifest.

    Raises:
        CheckpointMissing: There is no checkpoint at this path.
        ManifestInvalid: The manifest cannot be parsed, or a field is wrong.
        WeightsDamaged: The weights cannot be read.
        CheckpointMismatch: The weights are not those of the manifest.
    """
    path = Path(path).absolute()
    manifest = read_manifest(path)
    variables = restore(path / WEIGHTS)
    _compare(path / WEIGHTS, manifest.config, variables)
    found = content_hash(manifest, variables)
    if found != manifest.content_hash:
        raise CheckpointMismatch(
            path,
            f"the content's hash is {found[:12]}, "
            f"the manifest says {manifest.content_hash[:12]}",
        )
    return Checkpoint(manifest, variables)


def restore(path: Path) -> dict[str, Any]:
    """Read an Orbax checkpoint as nested dictionaries of NumPy arrays.

    Raises:
        WeightsDamaged: Orbax cannot read the folder.
    """
    if not path.is_dir():
        raise WeightsDamaged(path, "there is no such folder")
    try:
        with _checkpointer() as checkpointer:
            metadata = checkpointer.metadata(path).item_metadata
            if metadata is None:
                raise ValueError("its list of arrays is missing or damaged")
            arguments = jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree
            )
            restore = ocp.args.PyTreeRestore(restore_args=arguments)
            return dict(checkpointer.restore(path, restore))
    except Exception as error:  # Orbax and TensorStore raise many types
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        reason = f"{type(error).__name__} {first[:200]}".strip()
        raise WeightsDamaged(path, f"Orbax cannot read it: {reason}") from error


def _compare(path: Path, config: ModelConfig, variables: Variables) -> None:
    expected, found = expected_shapes(config), leaves(variables)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise CheckpointMismatch(path, f"the leaf {name} is missing")
        if name not in expected:
            raise CheckpointMismatch(path, f"the leaf {name} is not of this model")
        if expected[name] != found[name].shape:
            raise CheckpointMismatch(
                path,
                f"the leaf {name} has shape {found[name].shape}; "
                f"the configuration says {expected[name]}",
            )

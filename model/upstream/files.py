"""Reader of the reference trainer's checkpoints, in each of its layouts.

Flax's `save_checkpoint` writes `checkpoints/checkpoint_N`, N the newest step:

    layout              checkpoint_N is
    msgpack             a file: nested maps, an array is extension type 1
    Orbax, aggregated   a folder with the file `checkpoint` (Flax 0.8 and before)
    Orbax, OCDBT        a folder with `manifest.ocdbt`

An older and a newer Flax, each with msgpack or Orbax, write these.
Only `params` and `model_state` are read; the optimizer's state is ignored.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack
import numpy as np

from saccade.model.checkpoint import MANIFEST, WeightsDamaged, restore
from saccade.model.classifier import Variables
from saccade.model.upstream.errors import (
    UnknownLayout,
    UpstreamDamaged,
    UpstreamMissing,
)

ARRAY: Final = 1
SCALAR: Final = 3
"""Flax's msgpack extension types: both hold (shape, dtype's name, bytes)."""

STEP: Final = re.compile(r"checkpoint_(\d+)")
ORBAX_FILES: Final = ("manifest.ocdbt", "checkpoint", "_METADATA")


class UpstreamFile(NamedTuple):
    """A checkpoint that was read.

    Attributes:
        path: The file or folder, `checkpoint_N`.
        layout: Of the file: msgpack or orbax.
        step: The optimizer's step; None if unknown.
        variables: Linen's nested dictionaries of float32 arrays, `params` and, with
            batch norm, `batch_stats`.
    """

    path: Path
    layout: str
    step: int | None
    variables: Variables


def read(path: Path) -> UpstreamFile:
    """Read the checkpoint at a path, the newest one in a run's folder.

    Raises:
        UpstreamMissing: There is no checkpoint.
        UnknownLayout: The file is no checkpoint of the reference's trainer.
        UpstreamDamaged: The checkpoint cannot be read.
    """
    found = locate(path)
    if found.is_dir():
        layout, tree = "orbax", _restored(found)
    else:
        layout, tree = "msgpack", _unpacked(found)
    if not isinstance(tree.get("params"), dict):
        raise UnknownLayout(found, f"no parameters among {', '.join(map(str, tree))}")
    state = tree.get("model_state") or {}
    variables = {"params": tree["params"], **state}
    step = tree.get("step")
    return UpstreamFile(
        found,
        layout,
        None if step is None else int(np.asarray(step)),
        {name: _arrays(found, node) for name, node in variables.items() if node},
    )


def locate(path: Path) -> Path:
    """Return the file or folder that holds the arrays.

    Raises:
        UpstreamMissing: There is no checkpoint.
        UnknownLayout: The folder holds a checkpoint of ours.
    """
    if not path.exists():
        raise UpstreamMissing(path, "there is no such file or folder")
    if path.is_file() or any((path / name).exists() for name in ORBAX_FILES):
        return path
    if (path / MANIFEST).is_file():
        raise UnknownLayout(path, "this is a Saccade checkpoint already: serve it")
    steps = {
        int(name.group(1)): entry
        for folder in (path, path / "checkpoints")
        if folder.is_dir()
        for entry in folder.iterdir()
        if (name := STEP.fullmatch(entry.name))
    }
    if not steps:
        raise UpstreamMissing(path, "there is no checkpoint_N in this folder")
    return steps[max(steps)]


def _restored(path: Path) -> dict[str, Any]:
    try:
        return restore(path)
    except WeightsDamaged as error:
        raise UpstreamDamaged(path, error.reason) from error


def _unpacked(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    if not data or not (data[0] >> 4 == 0x8 or data[0] in {0xDE, 0xDF}):
        raise UnknownLayout(path, "neither a folder nor a file of msgpack maps")
    try:
        tree = msgpack.unpackb(data, ext_hook=_array, strict_map_key=False)
    except (ValueError, TypeError) as error:
        reason = str(error).strip() or type(error).__name__
        raise UpstreamDamaged(path, f"truncated or damaged: {reason}") from error
    return dict(tree)


def _array(code: int, data: bytes) -> Any:
    if code not in {ARRAY, SCALAR}:
        return msgpack.ExtType(code, data)
    shape, dtype, content = msgpack.unpackb(data, raw=True)
    return np.frombuffer(content, np.dtype(dtype.decode())).reshape(shape)


def _arrays(path: Path, node: Any, name: str = "") -> Any:
    """Return the arrays as float32, without nodes saved empty (as None or {})."""
    if isinstance(node, dict):
        parts = {
            key: _arrays(path, part, f"{name}/{key}") for key, part in node.items()
        }
        return {key: part for key, part in parts.items() if part is not None}
    if node is None:
        return None
    array = np.asarray(node)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise UpstreamDamaged(path, f"{name[1:]} holds {array.dtype}, not numbers")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UpstreamDamaged(path, f"{name[1:]} holds values that are not finite")
    return array

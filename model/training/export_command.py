"""`saccade export`: from a run's folder to a checkpoint that is fit to be served."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from saccade.model.checkpoint import CheckpointError, load, save
from saccade.model.manifest import Manifest
from saccade.model.training.errors import InvalidSetting, TrainingError
from saccade.model.training.evaluate_command import locate
from saccade.model.training.model_card import card, portable

FAILED: Final = 1
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def export(argv: Sequence[str]) -> int:
    """Copy a run's best checkpoint, under a name, with a model card."""
    arguments = parser().parse_args(argv)
    try:
        folder = export_run(
            arguments.run, arguments.name, arguments.out, arguments.evaluation
        )
    except (TrainingError, CheckpointError, OSError) as error:
        sys.stderr.write(f"saccade export: {error}\n")
        return FAILED
    sys.stdout.write(
        f"{folder}: {arguments.name}, with its card in README.md\n"
        f"serve it: saccade serve --model {shlex.quote(str(folder))}\n"
    )
    return 0


def export_run(
    run: Path, name: str, out: Path, evaluations: Sequence[Path] = ()
) -> Path:
    """Write `out/name`: the weights, their manifest and a card.

    Args:
        run: A run's folder, whose best checkpoint is taken (its last, if it was never
            validated), or a checkpoint's.
        name: What clients ask for.
        out: Where the new folder goes.
        evaluations: What `saccade evaluate --json` said of this checkpoint.

    Raises:
        InvalidSetting: The name is none, the folder is there already, or an evaluation
            is of another checkpoint.
        CheckpointError: The run has no checkpoint that can be used.
    """
    if not NAME.fullmatch(name):
        raise InvalidSetting("--name", f"{name!r} is not letters, digits, . _ and -")
    folder = out / name
    if folder.exists():
        raise InvalidSetting("--name", f"{folder} is there already")
    checkpoint = load(locate(str(run)))
    named = _renamed(checkpoint.manifest, name)
    for path in evaluations:
        named = _measured(named, path)
    manifest = save(folder, named, checkpoint.variables)
    (folder / "README.md").write_text(card(manifest, checkpoint.variables))
    return folder


def _renamed(manifest: Manifest, name: str) -> Manifest:
    origin = dict(manifest.provenance)
    if "command" in origin:
        origin["command"] = portable(origin["command"])
    return replace(manifest, name=name, provenance=origin)


def _measured(manifest: Manifest, path: Path) -> Manifest:
    """Add an evaluation's score to what the manifest tells, under its split."""
    try:
        told = json.loads(path.read_text())
        score = {key: float(told[key]) for key in ("accuracy", "loss")}
        low, high = map(float, told["ci95"])
        samples, split = int(told["samples"]), str(told["split"])
        measured = told["content_hash"]
    except (UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        reason = f"{path} is not what saccade evaluate --json writes: {error!r}"
        raise InvalidSetting("--evaluation", reason) from error
    if measured != manifest.content_hash:
        reason = f"{path} is of a checkpoint with other weights, {measured}"
        raise InvalidSetting("--evaluation", reason)
    found = {**score, "samples": samples, "ci95": [low, high]}
    return replace(manifest, metrics={**manifest.metrics, split: found})


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(prog="saccade export", description=export.__doc__)
    result.add_argument(
        "run", type=Path, metavar="RUN", help="a run's folder, or a checkpoint's"
    )
    result.add_argument(
        "--name", required=True, help="what clients ask for, and the new folder's name"
    )
    result.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the new folder goes (default: here)",
    )
    result.add_argument(
        "--evaluation",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="what `saccade evaluate checkpoint=RUN --json` wrote, for manifest and "
        "card; once for each split",
    )
    return result

"""`saccade export`: from a run's folder to a checkpoint that is fit to be served."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import jax

from saccade.model.checkpoint import CheckpointError, load, save
from saccade.model.classifier import Variables
from saccade.model.config import ModelConfig
from saccade.model.manifest import Manifest
from saccade.model.training.errors import InvalidSetting, TrainingError
from saccade.model.training.evaluate_command import locate

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


# >>> merged from model.training.model_card
# >>> """A model card: what a checkpoint is, in a table that people read first."""

LEFT_OUT: Final = ("output_dir=", "logging", "system.")
SPLITS: Final[Mapping[str, str]] = {
    "test": "samples of the test split",
    "validation": "samples held out to choose the best epoch",
    "train": "samples that it was trained on",
}
"""What a split's samples are, the most telling first."""


def portable(command: str) -> str:
    """Return a command without what only its writer's machine has."""
    words = [w for w in shlex.split(command) if not w.startswith(LEFT_OUT)]
    told = ["data_dir=FOLDER" if w.startswith("data_dir=") else w for w in words]
    return " ".join(w if w == "data_dir=FOLDER" else shlex.quote(w) for w in told)


def card(manifest: Manifest, variables: Variables) -> str:
    """Return a card as Markdown."""
    origin, sensor = manifest.provenance, manifest.tokenization.sensor
    polarity = "polarity" if sensor.polarities == 1 else "polarities"
    rows = {
        "Answers": ", ".join(manifest.labels),
        "Sensor": f"{sensor.width}×{sensor.height} pixels, "
        f"{sensor.polarities} {polarity}",
        "Model": _model(manifest.config, variables),
        "Trained on": f"{origin.get('training_samples', '?')} samples, "
        f"{origin.get('epochs', '?')} epochs, seed {origin.get('seed', '?')}",
        "Licence of the data": str(origin.get("data", "unknown")),
        "Command": f"`{origin.get('command', 'unknown')}`",
        "Code": f"commit {origin.get('git') or 'unknown'}",
        "Accuracy": _accuracy(manifest.metrics),
    }
    table = "\n".join(f"| {name} | {_cell(text)} |" for name, text in rows.items())
    return f"# {manifest.name}\n\n| | |\n|---|---|\n{table}\n"


def _model(config: ModelConfig, variables: Variables) -> str:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return (
        f"event-SSM, {config.num_stages} stages × {config.num_layers_per_stage} "
        f"layers, stride {config.pooling_stride} (a tick is {config.tick_events} "
        f"events), d_model {config.d_model}, d_ssm {config.d_ssm}, "
        f"`{config.discretization}` discretization, {parameters:,} parameters"
    )


def _accuracy(metrics: Mapping[str, Any]) -> str:
    known = [split for split in SPLITS if split in metrics]
    found = [_score(metrics[split], SPLITS[split]) for split in known]
    return "; ".join(found) or "not measured: saccade evaluate does"


def _score(found: Mapping[str, Any], what: str) -> str:
    low, high = found["ci95"]
    return (
        f"{found['accuracy']:.1%} of {found['samples']} {what} "
        f"(95% interval {low:.1%} to {high:.1%})"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

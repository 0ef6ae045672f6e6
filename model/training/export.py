"""`saccade export`: copy a run's checkpoint, with a name and a model card."""

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

import jax

from saccade.model.checkpoint import CheckpointError, load, save
from saccade.model.classifier import Variables
from saccade.model.config import ModelConfig
from saccade.model.manifest import Manifest
from saccade.model.training.errors import InvalidSetting, TrainingError
from saccade.model.training.evaluate_command import locate
from saccade.model.training.metrics import Score

FAILED: Final = 1
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LEFT_OUT: Final = ("output_dir=", "logging", "system.")
"""Settings of the writer's machine, left out of a card's command."""

SPLITS: Final = {
    "test": "samples of the test split",
    "validation": "samples held out to choose the best epoch",
    "train": "samples that it was trained on",
}
"""A card's words for the samples of each split, the most telling split first."""


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
        run: A run's folder with a best checkpoint (or, if the run was never validated,
            a last one), or a checkpoint's folder.
        name: The name that clients ask for.
        out: Parent of the new folder.
        evaluations: Files with the output of `saccade evaluate --json`.

    Raises:
        InvalidSetting: The name is malformed, the folder exists, or an evaluation is
            of another checkpoint.
        CheckpointError: The run has no usable checkpoint.
    """
    if not NAME.fullmatch(name):
        raise InvalidSetting("--name", f"{name!r} is not letters, digits, . _ and -")
    folder = out / name
    if folder.exists():
        raise InvalidSetting("--name", f"{folder} is there already")
    checkpoint = load(locate(str(run)))
    named = _renamed(checkpoint.manifest, name)
    for path in evaluations:
        named = _with_evaluation(named, path)
    manifest = save(folder, named, checkpoint.variables)
    (folder / "README.md").write_text(card(manifest, checkpoint.variables))
    return folder


def _renamed(manifest: Manifest, name: str) -> Manifest:
    origin = dict(manifest.provenance)
    if "command" in origin:
        origin["command"] = portable(origin["command"])
    return replace(manifest, name=name, provenance=origin)


def _with_evaluation(manifest: Manifest, path: Path) -> Manifest:
    """Add an evaluation's score to the manifest's metrics, under its split."""
    try:
        values = json.loads(path.read_text())
        score, split = Score.from_dict(values), str(values["split"])
        measured = values["content_hash"]
    except (UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        reason = f"{path} is not what saccade evaluate --json writes: {error!r}"
        raise InvalidSetting("--evaluation", reason) from error
    if measured != manifest.content_hash:
        reason = f"{path} is of a checkpoint with other weights, {measured}"
        raise InvalidSetting("--evaluation", reason)
    return replace(manifest, metrics={**manifest.metrics, split: score.to_dict()})


def portable(command: str) -> str:
    """Return a command without the settings of its writer's machine."""
    words = [w for w in shlex.split(command) if not w.startswith(LEFT_OUT)]
    return " ".join(
        "data_dir=FOLDER" if w.startswith("data_dir=") else shlex.quote(w)
        for w in words
    )


def card(manifest: Manifest, variables: Variables) -> str:
    """Return a model card as Markdown: one table."""
    origin, sensor = manifest.provenance, manifest.tokenization.sensor
    polarity = "polarity" if sensor.polarities == 1 else "polarities"
    scores = [
        Score.from_dict(manifest.metrics[split]).accuracy_of(samples)
        for split, samples in SPLITS.items()
        if split in manifest.metrics
    ]
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
        "Accuracy": "; ".join(scores) or "not measured: saccade evaluate does",
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


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


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

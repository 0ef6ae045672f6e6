"""A model card: what a checkpoint is, in a table that people read first."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Final

import jax

from saccade.model.classifier import Variables
from saccade.model.config import ModelConfig
from saccade.model.manifest import Manifest

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

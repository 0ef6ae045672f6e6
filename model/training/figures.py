"""Figures as PNG: confusion matrix, confidence over time, curves of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from saccade.model.training.evaluation import Evaluation, Reals, log_softmax
from saccade.model.training.run_folder import RunFolder

TIMES: Final = 200
"""Number of times at which the confidence is drawn."""
DOTS_PER_INCH: Final = 120


def write_figures(folder: Path, result: Evaluation) -> None:
    """Write evaluation.json, confusion.png and, for streams, confidence.png."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.to_dict(), indent=1)
    (folder / "evaluation.json").write_text(text + "\n")
    confusion(result).savefig(folder / "confusion.png", dpi=DOTS_PER_INCH)
    if result.decisions_ms.size:
        confidence(result).savefig(folder / "confidence.png", dpi=DOTS_PER_INCH)


def write_curves(folder: RunFolder) -> None:
    """Write a run's metrics as a table, metrics.csv, and as curves, curves.png."""
    records = folder.read_metrics()
    names = list(dict.fromkeys(name for record in records for name in record))
    with (folder.path / "metrics.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(records)
    curves(records).savefig(folder.path / "curves.png", dpi=DOTS_PER_INCH)


def curves(records: list[dict[str, Any]]) -> Figure:
    """Draw loss and accuracy by epoch, of training batches and of validations."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    for place, quantity in enumerate(("loss", "accuracy"), start=1):
        axes = figure.add_subplot(1, 2, place)
        for kind in ("train", "validation"):
            rows = [record for record in records if record["kind"] == kind]
            epochs = [row["epoch"] for row in rows]
            axes.plot(epochs, [row[quantity] for row in rows], ".-", label=kind)
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.legend()
    return figure


def confusion(result: Evaluation) -> Figure:
    """Draw the confusion matrix."""
    counts, size = result.confusion, len(result.labels)
    side = 3.0 + 0.35 * size
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in zip(*np.nonzero(counts), strict=True):
        shade = "white" if shares[row, column] > 0.5 else "black"
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=8)
    axes.set_xticks(range(size), result.labels, rotation=90)
    axes.set_yticks(range(size), result.labels)
    axes.set(
        xlabel="predicted", ylabel="true", title=f"{result.split}: {_title(result)}"
    )
    return figure


def confidence(result: Evaluation) -> Figure:
    """Draw the probability of the true class while the events come in."""
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    t_ms, known = confidence_over_time(result)
    low, middle, high = np.percentile(known, [25, 50, 75], axis=0)
    axes.fill_between(t_ms, low, high, alpha=0.25, label="middle half of the samples")
    axes.plot(t_ms, middle, label="median")
    axes.plot(t_ms, known.mean(axis=0), "--", label="mean")
    decided = float(np.median(result.decisions_ms))
    axes.axvline(decided, color="grey", linestyle=":", label="answer final (median)")
    axes.set(xlabel="time since the first event, ms", ylabel="probability of the class")
    axes.set(ylim=(0.0, 1.0), title=f"{result.split}: {_title(result)}")
    axes.legend()
    return figure


def confidence_over_time(result: Evaluation) -> tuple[Reals, Reals]:
    """Return TIMES times, ms, (t,), and each sample's probability of its class, (n, t).

    Before a sample's first tick all classes are equally likely; after its last tick the
    probabilities stay.
    """
    pairs = zip(result.predictions.trajectories, result.predictions.labels, strict=True)
    streamed = [
        (trajectory, label) for trajectory, label in pairs if trajectory.t_ms.size
    ]
    t_ms = np.linspace(0.0, max(c.t_ms[-1] for c, _ in streamed), TIMES)
    rows = []
    for trajectory, label in streamed:
        likely = np.exp(log_softmax(trajectory.logits))[:, label]
        chance = 1.0 / trajectory.logits.shape[-1]
        places = np.searchsorted(trajectory.t_ms, t_ms, side="right")
        rows.append(np.concatenate([[chance], likely])[places])
    return t_ms, np.stack(rows)


def _title(result: Evaluation) -> str:
    return f"{result.score.accuracy:.1%} of {result.score.samples} samples"
